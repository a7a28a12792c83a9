"""Calls that can be killed, in workers that are kept."""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from envhub.errors import JudgeFault, UsageError
from judges.processes import Died, Failed, TimedOut, Workers, killable


@pytest.fixture
def workers():
    workers = Workers(most=2)
    yield workers
    workers.close()


def request(function, *arguments) -> bytes:
    return pickle.dumps((function, arguments))


def gone(pid: int) -> bool:
    """Whether no such process lives; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def eventually(condition) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_a_worker_is_kept_between_calls(workers: Workers):
    assert len({workers.call(request(os.getpid), 10) for _ in range(5)}) == 1
    assert workers.call(request(math.comb, 10, 5), 10) == 252


def test_what_runs_over_its_time_is_dead_at_once(workers: Workers):
    pid = workers.call(request(os.getpid), 10)
    start = time.monotonic()
    with pytest.raises(TimedOut, match=r"killed after 0\.2 s"):
        workers.call(request(eval, "9**9**9**9"), 0.2)  # one bytecode that never returns to Python
    assert time.monotonic() - start < 10
    assert gone(pid)
    assert workers.call(request(os.getpid), 10) != pid


def test_a_worker_whose_call_was_interrupted_is_not_used_again(workers: Workers):
    pid = workers.call(request(os.getpid), 10)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.call(request(time.sleep, 60), 60)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert gone(pid)
    assert workers.call(request(os.getpid), 10) != pid


def test_a_worker_that_dies_is_told_from_one_that_raises(workers: Workers):
    with pytest.raises(Died, match="died"):
        workers.call(request(os._exit, 3), 10)
    with pytest.raises(Failed, match="ZeroDivisionError: division by zero"):
        workers.call(request(eval, "1/0"), 10)
    with pytest.raises(Failed, match="SystemExit"):
        workers.call(request(sys.exit, 3), 10)
    with pytest.raises(Failed, match="not JSON serializable"):
        workers.call(request(bytes, 3), 10)
    assert workers.call(request(len, "abc"), 10) == 3


def test_memory_is_bounded(workers: Workers):
    with pytest.raises((Died, Failed)):
        workers.call(request(eval, "len(bytes(8 << 30))"), 10)


def test_a_worker_writes_no_file(workers: Workers, tmp_path: Path):
    with pytest.raises((Died, Failed)):
        workers.call(request(eval, f"open({str(tmp_path / 'it')!r}, 'w').write('x' * 9999) and None"), 10)
    assert not (tmp_path / "it").exists() or not (tmp_path / "it").read_text()


def test_secrets_of_the_environment_stay_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SOME_TOKEN", "secret")
    workers = Workers()
    try:
        assert workers.call(request(eval, "__import__('os').environ.get('SOME_TOKEN', 'none')"), 10) == "none"
    finally:
        workers.close()


def test_calls_of_many_threads_share_the_workers(workers: Workers):
    pids = []
    threads = [threading.Thread(target=lambda: pids.append(workers.call(request(os.getpid), 10))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 20
    assert len(set(pids)) <= 2


def test_workers_begin_again_after_the_death_of_their_nursery(workers: Workers):
    pid = workers.call(request(os.getpid), 10)
    os.kill(workers._nursery._process.pid, signal.SIGKILL)
    assert eventually(lambda: gone(pid)), "a worker outlived its nursery"
    workers._nursery._process.wait()
    assert workers.call(request(len, "abc"), 10) == 3


def test_no_worker_outlives_the_process_that_was_killed():
    code = """
import os, pickle, time
from judges.processes import killable
print(killable(os.getpid, timeout_s=10), flush=True)
killable(time.sleep, 60, timeout_s=60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as host:
        pid = int(host.stdout.readline())
        time.sleep(0.1)  # it is asleep in its second call
        host.kill()
    assert eventually(lambda: gone(pid))


def test_a_process_that_ends_by_itself_leaves_neither_worker_nor_warning():
    code = "import os; from judges.processes import killable; print(killable(os.getpid, timeout_s=10))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert gone(int(done.stdout))
    assert done.stderr == ""


def test_a_fork_has_workers_of_its_own():
    ours = killable(os.getpid, timeout_s=10)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, str(killable(os.getpid, timeout_s=10)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != ours
    assert killable(os.getpid, timeout_s=10) == ours
    os.close(read), os.close(write)


def test_a_package_that_is_missing_is_named():
    with pytest.raises(UsageError, match=r"No module named 'no_such_package'; pip install 'envhub-rl\[judges\]'"):
        killable(len, "abc", timeout_s=10, modules=("no_such_package",))


def test_a_call_that_dies_is_tried_once_more(tmp_path: Path):
    mark = tmp_path / "mark"
    mark.mkdir()
    once = f"(lambda os, it: os.path.exists(it) and (os.rmdir(it), os._exit(1)) or 7)(__import__('os'), {str(mark)!r})"
    assert killable(eval, once, timeout_s=10) == 7
    assert not mark.exists()
    with pytest.raises(Died):
        killable(os._exit, 1, timeout_s=10)


def test_faults_of_a_call_are_the_judges():
    assert all(issubclass(error, JudgeFault) for error in (TimedOut, Died, Failed))
