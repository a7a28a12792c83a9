"""`envhub run --trainer`: a trainer in a process of its own, that consumes, fails or never comes."""

import shlex
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from envhub.cli import trainer
from envhub.contracts.members import MemberState
from tests.cli.command import PATIENCE_S, TRAINER, Command, members, started, wait_for

RUN = ("run", "envhub/arithmetic-v0", "--engine", "scripted", "-n", "3", "--run-id", "mine")

TAKES_ONE = f"{sys.executable} {Path(__file__).with_name('brief_trainer.py')}"
WAITS = "import time; print('here'); time.sleep(600)"
IGNORES_THE_END = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


def python(source: str) -> str:
    """A command that runs that source."""
    return f"{sys.executable} -c {shlex.quote(source)}"


def test_a_trainer_consumes_the_run_and_its_lines_are_shown(program: Command):
    answer = program(*RUN, "--trainer", TRAINER, "--json")
    assert answer.code == 0
    assert answer.json["members"] == {"submitted": 12, "acked": 12}
    lines = [line for line in answer.err.splitlines() if line.startswith("trainer ")]
    assert lines[-1].startswith("trainer drained: 3 groups, 12 rows")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (python("raise SystemExit(3)"), "the trainer ended with exit code 3"),
        (python("print('no newline at the end', end='')"), "the trainer ended before the run"),
        (f"{TAKES_ONE} 1", "the trainer ended with exit code 1"),
        (f"{TAKES_ONE} 0", "the trainer ended before the run"),
    ],
)
def test_groups_that_a_trainer_left_go_to_the_next_one(envhub: Command, tmp_path: Path, command: str, why: str):
    answer = envhub(*RUN, "--trainer", command)
    assert answer.code == 1
    assert f"error: {why}; groups that it did not ack are kept: run --resume delivers them\n" in answer.err
    assert "Traceback" not in answer.err
    left = members(tmp_path / "envhub.db", "mine")
    assert left.conserved
    assert not left.drained
    assert not left.of(MemberState.LEASED)
    resume = answer.out.partition("next:\n")[2].splitlines()[0].split("  ")[1]
    assert resume == f"envhub run --resume mine --engine scripted --trainer {shlex.quote(command)}"

    answer = envhub("run", "--resume", "mine", "--engine", "scripted", "--trainer", TRAINER, "--json")
    assert answer.code == 0
    assert answer.json["members"] == {"submitted": 12, "acked": 12}
    assert answer.json["environments"]["envhub/arithmetic-v0"]["rollouts"] == 12
    assert envhub("verify").code == 0


def test_the_last_words_of_a_trainer_are_shown(envhub: Command):
    answer = envhub(*RUN, "--trainer", python("print('no newline at the end', end='')"))
    assert "trainer no newline at the end\n" in answer.err


def test_a_trainer_that_fails_once_all_is_acked_fails_the_run(envhub: Command):
    answer = envhub(*RUN, "--trainer", f"sh -c '{TRAINER}; exit 4'", "--json")
    assert answer.code == 1
    assert answer.json["drained"] is True
    assert "the trainer ended with exit code 4" in answer.err


@pytest.mark.anyio
async def test_a_trainer_that_does_not_listen_is_ended_with_the_run(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(trainer, "GRACE_S", 0.1)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            said = anyio.Event()
            monkeypatch.setattr(trainer, "_print", lambda line: said.set())
            tasks.start_soon(trainer.run_trainer, [sys.executable, "-u", "-c", IGNORES_THE_END], "127.0.0.1:1")
            await said.wait()
            tasks.cancel_scope.cancel()


def test_a_run_with_a_feed_waits_for_a_trainer(tmp_path: Path):
    with started(tmp_path, *RUN, "--feed", "127.0.0.1:0") as running:
        assert running.process.stderr is not None
        address = next(line.split()[4] for line in running.process.stderr if line.startswith("the feed is on"))
        consume = [*shlex.split(TRAINER), address.rstrip(";")]
        subprocess.run(consume, check=True, capture_output=True, timeout=PATIENCE_S)
        answer = running.end()
    assert answer.code == 0
    assert "12 submitted = 12 acked" in answer.out


def test_ctrl_c_reaches_the_trainer_only_through_the_run(tmp_path: Path):
    with started(tmp_path, *RUN, "--trainer", python(WAITS)) as running:
        wait_for(tmp_path / "envhub.db", "mine", lambda counts: counts.of(MemberState.SCORED) == 12)
        answer = running.interrupt()
    assert answer.code == 130
    assert "trainer here" in answer.err
    assert "KeyboardInterrupt" not in answer.err
    assert members(tmp_path / "envhub.db", "mine").of(MemberState.SCORED) == 12
