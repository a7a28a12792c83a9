"""Phases tile a rollout's life, and the critical path a tree's."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.events import Event, RolloutContinued, RolloutPaused
from envhub.contracts.ids import RunId
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.step import Step
from envhub.contracts.turn import Timings
from envhub.monitor.critical_path import critical_path
from envhub.monitor.phases import Life, Phase, PhaseKind, _tiled, lives
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.traces import SampleRun, sample_turn

KINDS = st.sampled_from(list(PhaseKind))
TIMES = st.floats(-5, 15)


@given(spans=st.lists(st.tuples(KINDS, TIMES, TIMES), max_size=12))
def test_phases_tile_a_life_whatever_overlaps(spans: list[tuple[PhaseKind, float, float]]):
    found = list(_tiled([Phase(kind, "", min(a, b), max(a, b)) for kind, a, b in spans], 0.0, 10.0))
    assert found[0].started_at == 0.0
    assert found[-1].ended_at == 10.0
    assert all(one.ended_at == other.started_at for one, other in pairwise(found))
    assert all(phase.seconds > 0 for phase in found)


def life() -> list[Event]:
    """Starts at 0; calls the model from 1 to 2 and 5 to 6, a tool from 2 to 4, is paused from 4 to 5, judged to 9."""
    run = SampleRun(RunId("r"))
    start = replace(run.start(0, 0), at=0.0)
    one = replace(sample_turn(0), timings=Timings(1.0, 1.5, 2.0))
    two = replace(sample_turn(1, parent=0), timings=Timings(5.0, 5.5, 6.0))
    call = Message.assistant("", (ToolCall("1", "search"), ToolCall("2", "open"), ToolCall("3", "search")))
    step = Step(0, 0, call, (), 0.0, False, False, 2.0, 4.0)
    return [
        start,
        replace(run.turn(start, one), at=2.0),
        replace(run.step(start), at=4.0, step=step),
        RolloutPaused(run.run_id, 4.0, start.rollout_id),
        RolloutContinued(run.run_id, 5.0, start.rollout_id),
        replace(run.turn(start, two), at=6.0),
        replace(run.end(start), at=9.0),
    ]


def test_a_life_is_told_from_its_events():
    (told,) = lives(life()).values()
    assert [(phase.kind, phase.name, phase.started_at, phase.ended_at) for phase in told.phases(99.0)] == [
        ("environment", "demo/sums-v0 reset", 0.0, 1.0),
        ("engine", "policy", 1.0, 2.0),
        ("tool", "search + open", 2.0, 4.0),
        ("paused", "", 4.0, 5.0),
        ("engine", "policy", 5.0, 6.0),
        ("judge", "demo/sums-v0's own", 6.0, 9.0),
    ]


def test_a_rollout_that_runs_lives_until_now():
    told = lives(life()[:-1]).popitem()[1]
    assert told.phases(20.0)[-1].ended_at == 20.0
    assert not any(phase.kind is PhaseKind.JUDGE for phase in told.phases(20.0))


def test_a_life_without_a_start_has_no_phases():
    assert Life().phases(1.0) == []


@pytest.mark.anyio
async def test_the_critical_path_goes_through_the_child_that_ended_last():
    run = SampleRun(RunId("r"))
    root = replace(run.start(0, 0), at=0.0)
    quick, slow = replace(run.child(root, 0), at=1.0), replace(run.child(root, 1), at=2.0)
    below = replace(run.child(slow, 0), at=3.0)
    ends = [replace(run.end(one), at=at) for one, at in ((quick, 4.0), (below, 7.0), (slow, 8.0), (root, 10.0))]
    store = MemoryTraceStore()
    await store.append([run.started(), run.submitted(0), root, quick, slow, below, *ends])
    tree = [await store.rollout(one.rollout_id) for one in (root, quick, slow, below)]
    path = critical_path([one for one in tree if one], 99.0)
    assert [(part.rollout_id.removeprefix(root.rollout_id), part.started_at, part.ended_at) for part in path] == [
        ("", 0.0, 2.0),
        (".1", 2.0, 3.0),
        (".1.0", 3.0, 7.0),
        (".1", 7.0, 8.0),
        ("", 8.0, 10.0),
    ]
