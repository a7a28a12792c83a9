"""What docs/scaling.md builds on: a rollout asks the same of its manager, whatever the number of workers."""

import sys
from cProfile import Profile
from pathlib import Path
from pstats import Stats

import pytest

from benchmarks.scale_parts.simulated import Played, play
from benchmarks.scale_parts.typical import typical

MANAGER = str(Path("envhub", "rollouts"))
HELLOS = 3  # messages that open and stop a worker, and say that it is open


def calls_of(workers: int, rollouts: int) -> tuple[Played, float]:
    """What was played, and how many calls a rollout took of the rooms that a manager is made of."""
    profile = Profile()
    with profile:
        played = play(workers, rollouts)
    stats = Stats(profile).stats  # type: ignore[attr-defined]  # no stub has it
    return played, sum(numbers[0] for (file, _, _), numbers in stats.items() if MANAGER in file) / rollouts


@pytest.mark.skipif(sys.getprofile() is not None, reason="somebody else takes a profile")
def test_a_rollout_asks_the_same_of_its_manager_with_ten_workers_and_with_a_thousand():
    few, few_calls = calls_of(10, 400)
    many, many_calls = calls_of(1_000, 2_000)
    for played, workers in ((few, 10), (many, 1_000)):
        traffic, rollouts = played.traffic, played.rollouts
        assert (traffic.messages - HELLOS * workers) / rollouts == 12
        assert traffic.events / rollouts == few.traffic.events / few.rollouts
        assert traffic.bytes / rollouts < 9_000
    assert many_calls < 1.1 * few_calls
    assert many.traffic.frames / many.rollouts < few.traffic.frames / few.rollouts


def test_a_further_turn_is_two_messages_and_as_many_bytes_as_its_tokens_and_its_text():
    short, long = (play(10, 20, turns, typical) for turns in (4, 8))
    turns = 20 * (8 - 4)
    assert (long.traffic.messages - short.traffic.messages) / turns == 2
    assert (long.traffic.bytes - short.traffic.bytes) / turns == pytest.approx(13_900, rel=0.01)
