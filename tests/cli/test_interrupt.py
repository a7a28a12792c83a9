"""Ctrl-C: a run ends in order, and goes on later as if nothing had been."""

import shlex
import signal
from pathlib import Path

from envhub.contracts.members import MemberCounts, MemberState
from tests.cli.command import WORLDS, Answer, Command, members, started, wait_for

RUN = ("run", "test/slow-v0", "--load", WORLDS, "--engine", "scripted", "-n", "10", "-k", "2", "--max-running", "4")


def under_way(counts: MemberCounts) -> bool:
    return counts.of(MemberState.ACKED) > 0


def interrupted(directory: Path) -> Answer:
    """What a run gave that was interrupted when some of its members were done."""
    with started(directory, *RUN, "--run-id", "mine") as running:
        wait_for(directory / "envhub.db", "mine", under_way)
        return running.interrupt()


def test_an_interrupted_run_ends_in_order_and_goes_on(tmp_path: Path, program: Command):
    answer = interrupted(tmp_path)
    assert answer.code == 130
    assert "Traceback" not in answer.err
    assert "ending: what runs is cancelled and recorded" in answer.err
    left = members(tmp_path / "envhub.db", "mine")
    assert left.conserved
    assert not left.drained
    assert not left.of(MemberState.RUNNING)
    resume = answer.out.partition("next:\n")[2].splitlines()[0].split("  ")[1]

    answer = program(*shlex.split(resume)[1:], "--json")
    assert answer.code == 0
    assert answer.json["members"] == {"submitted": 20, "acked": 20}
    assert answer.json["environments"]["test/slow-v0"]["rollouts"] == 20
    assert program("verify").code == 0


def test_a_run_that_is_told_to_terminate_ends_in_order(tmp_path: Path):
    with started(tmp_path, *RUN, "--run-id", "mine") as running:
        wait_for(tmp_path / "envhub.db", "mine", under_way)
        running.process.send_signal(signal.SIGTERM)
        answer = running.end()
    assert answer.code == 130
    assert not members(tmp_path / "envhub.db", "mine").of(MemberState.RUNNING)


def test_a_finished_run_that_is_resumed_is_still_finished(envhub: Command):
    assert envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", "--run-id", "mine").code == 0
    answer = envhub("run", "--resume", "mine", "--engine", "scripted")
    assert answer.code == 0
    assert "4 submitted = 4 acked" in answer.out


def test_a_run_whose_environment_is_not_loaded_cannot_go_on(tmp_path: Path, envhub: Command):
    interrupted(tmp_path)
    answer = envhub("run", "--resume", "mine", "--engine", "scripted")
    assert answer.code == 2
    assert "no environment 'test/slow-v0'" in answer.err


def test_a_run_that_is_interrupted_before_it_began_leaves_nothing(tmp_path: Path, envhub: Command):
    run = ("run", "test/slow-v0", "--load", WORLDS, "--engine", "sluggish", "--run-id", "mine")
    with started(tmp_path, *run) as running:
        assert running.process.stderr is not None
        assert running.process.stderr.readline() == "loading\n"
        answer = running.interrupt()
    assert answer.code == 130
    assert answer.err.endswith("nothing was started\n")
    assert envhub("verify", "--json").json["runs"] == 0
