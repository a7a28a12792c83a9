"""`envhub run --workers N`: as in one process; and no process outlives the command, however it ends."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from envhub.contracts.members import MemberState
from tests.cli.command import ROOT, Command, members, started, wait_for
from tests.rollouts.ray_clusters import cluster

SLOW = ("run", "test/slow-v0", "--load", str(Path(__file__).with_name("worlds.py")), "--engine", "scripted")


def workers_running() -> list[psutil.Process]:
    """All below this process."""
    below = psutil.Process().children(recursive=True)
    return [process for process in below if "envhub.rollouts.worker" in process.cmdline()]


def all_gone(processes: list[psutil.Process]) -> bool:
    """Whether they end within some seconds."""
    return not psutil.wait_procs(processes, timeout=30)[1]


def test_environments_of_a_file_run_in_worker_processes(program: Command):
    example = str(ROOT / "docs" / "examples" / "sums.py")
    answer = program("run", "demo/sums-v0", "--load", example, "--engine", "scripted", "--workers", "2", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["members"] == {"submitted": 4, "acked": 4}


@pytest.fixture(params=["here", pytest.param("ray", marks=pytest.mark.ray)])
def places(request: pytest.FixtureRequest) -> Iterator[tuple[str, ...]]:
    """Options that say where workers are."""
    if request.param == "here":
        yield ()
        return
    with cluster() as nodes:
        yield ("--ray", nodes.address, "--worker-needs", "CPU=0.5")


@pytest.mark.parametrize("kills", [False, True], ids=["Ctrl-C", "kill -9"])
def test_workers_end_with_the_command_and_a_resume_goes_on(
    tmp_path: Path, program: Command, kills: bool, places: tuple[str, ...]
):
    database = tmp_path / "envhub.db"
    with started(tmp_path, *SLOW, "--groups", "8", "--workers", "2", *places, "--run-id", "cut") as running:
        wait_for(database, "cut", lambda counts: counts.of(MemberState.RUNNING) > 0)
        workers = workers_running()
        assert len(workers) == 2
        if kills:
            running.process.kill()
        else:
            assert running.interrupt().code == 130
        assert all_gone(workers)
    assert members(database, "cut").conserved
    assert not members(database, "cut").drained
    resumed = program("run", "--resume", "cut", *SLOW[2:], "--workers", "2", *places, "--json")
    assert resumed.code == 0, resumed.err
    assert members(database, "cut").drained
    assert program("verify").code == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--workers", "-1"), "workers is -1"),
        (("--workers", "3", "--max-workers", "2"), "max_workers is 2 and workers is 3"),
        (("--workers", "1", "--ray", "head"), "must be HOST:PORT of the head"),
        (("--ray", "auto"), "workers is 0, and ray says where"),
        (("--workers", "1", "--worker-needs", "GPU=1"), "name it with --ray"),
        (("--workers", "1", "--ray", "auto", "--worker-needs", "GPU"), "must read RESOURCE=N"),
        (("--workers", "1", "--ray", "auto", "--worker-needs", "GPU=one"), "'one' is no number"),
    ],
)
def test_a_number_of_workers_that_cannot_work_is_refused(envhub: Command, options: tuple[str, str], reason: str):
    answer = envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", *options)
    assert answer.code == 2
    assert reason in answer.err
