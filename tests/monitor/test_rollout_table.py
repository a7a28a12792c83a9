"""The table of rollouts follows its store, and its pages are what a plain sort of the same rollouts gives."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.events import Event, RolloutStarted
from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.monitor.figures import facets, heat, staleness, version_points
from envhub.monitor.rollout_pages import Selection, Sort, page
from envhub.monitor.rollout_table import RolloutTable
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.traces import SampleRun, sample_events, sample_turn

pytestmark = pytest.mark.anyio


async def table_of(*batches: list[Event]) -> RolloutTable:
    store = MemoryTraceStore()
    table = RolloutTable(store)
    for events in batches:
        await store.append(events)
        await table.refresh()
    return table


async def scored(*rewards: float | None, versions: tuple[int, ...] = ()) -> RolloutTable:
    """A rollout for each reward, None: it runs, sampled by these versions in turn."""
    run = SampleRun(RunId("r"))
    events: list[Event] = [run.started(), run.submitted(0, k=max(len(rewards), 1))]
    for member, reward in enumerate(rewards):
        start = run.start(0, member)
        version = versions[member % len(versions)] if versions else 0
        events += [start, run.turn(start, sample_turn(0, version=version))]
        events += [] if reward is None else [run.end(start, reward=reward)]
    return await table_of(events)


async def test_rollouts_that_run_are_read_again_until_they_have_ended():
    run = SampleRun(RunId("r"))
    one, two = run.start(0, 0), run.start(0, 1)
    table = await table_of([run.started(), run.submitted(0), one, two], [run.end(two)])
    assert table["status"].tolist() == [0, 1]
    assert math.isnan(table["reward"][0])
    assert table["reward"][1] == 1.0
    before = table.revision
    await table.refresh()
    assert table.revision == before  # nothing was new


async def test_a_table_that_was_read_in_steps_is_the_one_that_was_read_at_once():
    events = sample_events()
    in_steps = await table_of(*([event] for event in events))
    at_once = await table_of(events)
    assert len(in_steps) == len(at_once) == 12
    for name in ("place", "status", "failure", "requeued", "is_root"):
        assert in_steps[name].tolist() == at_once[name].tolist()
    np.testing.assert_array_equal(in_steps["reward"], at_once["reward"])  # where none is, none is


@given(
    rewards=st.lists(st.sampled_from([0.0, 0.5, 1.0, None]), max_size=30),
    descending=st.booleans(),
    limit=st.integers(1, 7),
)
def test_pages_joined_are_the_whole_in_order(rewards: list[float | None], descending: bool, limit: int):
    import anyio

    async def check() -> None:
        table = await scored(*rewards)
        found: list[int] = []
        cursor = ""
        while True:
            got = page(table, Selection(), sort=Sort.REWARD, descending=descending, limit=limit, cursor=cursor)
            assert got.total == len(rewards)
            found += got.rows.tolist()
            cursor = got.next_cursor
            if not cursor:
                break
        sign = -1 if descending else 1
        keys = {n: (math.inf if reward is None else sign * reward, sign * n) for n, reward in enumerate(rewards)}
        assert found == sorted(keys, key=lambda n: keys[n])

    anyio.run(check)


SELECTIONS: dict[str, tuple[Selection, Callable[[RolloutStarted], bool]]] = {
    "run": (Selection(run="nobody"), lambda start: False),
    "environment": (Selection(environments=["demo/sums-v0", "x"]), lambda start: True),
    "roots": (Selection(roots_only=True), lambda start: start.parent is None),
    "group": (Selection(group="sample-1"), lambda start: start.group_id == "sample-1"),
    "task": (Selection(task="task-2"), lambda start: start.request.task.id == "task-2"),
    "places": (Selection(places=[]), lambda start: False),
}


@pytest.mark.parametrize("name", SELECTIONS)
async def test_a_selection_lets_through_what_it_says(name: str):
    selection, wanted = SELECTIONS[name]
    table = await table_of(sample_events())
    starts = [event for event in sample_events() if isinstance(event, RolloutStarted)]
    assert selection.rows(table).tolist() == [n for n, start in enumerate(starts) if wanted(start)]


async def test_ranges_leave_out_what_has_no_value():
    table = await scored(0.0, 0.5, 1.0, None, versions=(3, 4))
    assert Selection(reward_min=0.5).rows(table).tolist() == [1, 2]
    assert Selection(reward_max=0.5).rows(table).tolist() == [0, 1]
    assert Selection(version_min=4).rows(table).tolist() == [1, 3]
    assert Selection(version_max=3).rows(table).tolist() == [0, 2]
    assert Selection(statuses=["running"]).rows(table).tolist() == [3]


@pytest.mark.parametrize("cursor", ["x", "reward-down-0x1p+0-1", "started-up-nan-1", "started-down-zz-1"])
async def test_a_cursor_of_another_order_is_refused(cursor: str):
    table = await scored(1.0)
    with pytest.raises(UsageError, match="is of no page in this order"):
        page(table, Selection(), sort=Sort.STARTED, descending=True, limit=5, cursor=cursor)


async def test_figures_stand_at_the_newest_version_that_sampled():
    table = await scored(0.0, 1.0, 1.0, None, versions=(0, 0, 1, 1))
    rows = Selection().rows(table)
    old, new = version_points(table, rows)
    assert (old.version, old.rollouts, old.pass_rate, old.mean_reward, old.reward_std) == (0, 2, 0.5, 0.5, 0.5)
    assert (new.version, new.rollouts, new.pass_rate, new.mean_reward) == (1, 2, 1.0, 1.0)
    assert facets(table, rows).status == {"running": 1, "completed": 3}
    assert heat(table, rows).pass_rate == ((0.5, 1.0),)


@pytest.mark.parametrize("far", [7, 2**40], ids=["near", "far apart"])
async def test_versions_may_lie_near_or_far_apart(far: int):
    points = version_points(table := await scored(0.0, 1.0, 1.0, versions=(3, far, 3)), Selection().rows(table))
    assert [(point.version, point.rollouts, point.mean_reward) for point in points] == [(3, 2, 0.5), (far, 1, 1.0)]


async def test_staleness_counts_versions_behind_the_newest_seen_by_then():
    table = await scored(1.0, 1.0, 1.0, versions=(0, 5, 2))
    assert staleness(table, Selection().rows(table)) == {0: 2, 3: 1}


async def test_figures_of_nothing_are_empty():
    table = await table_of([SampleRun(RunId("r")).started()])
    rows = Selection().rows(table)
    assert version_points(table, rows) == ()
    assert staleness(table, rows) == {}
    assert heat(table, rows).tasks == ()
    assert facets(table, rows).reward.counts == ()


async def test_many_versions_are_taken_together():
    run = SampleRun(RunId("r"))
    start = [run.start(0, member) for member in range(450)]
    events: list[Event] = [run.started(), run.submitted(0, k=450)]
    for version, one in enumerate(start):
        events += [one, run.turn(one, replace(sample_turn(0, version=version))), run.end(one)]
    table = await table_of(events)
    points = version_points(table, Selection().rows(table))
    assert len(points) <= 200
    assert sum(point.rollouts for point in points) == 450
    assert points[-1].version == 449
