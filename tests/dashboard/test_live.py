"""Live events: a page hears of changes, and of nothing else; what many watch is looked at once."""

import json
from functools import partial

import anyio
import pytest

from envhub.contracts.events import TurnRecorded
from envhub.dashboard.api import create_app
from envhub.dashboard.live import CHANGED, STILL, SharedLooks, changes
from envhub.dashboard.overview import changed, overview
from envhub.dashboard.routes.overview import _look_at_list, _look_at_tree, _overviews
from envhub.dashboard.shared import Dashboard
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import ANSWER, LIVE, RESULT, RUN, SOLVED, closing, turn

pytestmark = pytest.mark.anyio


async def no_wait() -> None:
    pass


@pytest.fixture
def shared(store: MemoryTraceStore, monkeypatch: pytest.MonkeyPatch) -> Dashboard:
    """A dashboard that looks into the store whenever it is asked."""
    dashboard: Dashboard = create_app(store, None).state.dashboard
    monkeypatch.setattr("envhub.dashboard.freshness.LOOK_S", 0.0)
    monkeypatch.setattr("envhub.dashboard.freshness.SHARE", 1e9)
    dashboard.looks = SharedLooks(0.0)
    return dashboard


async def test_a_page_hears_at_once_and_then_of_each_change_only():
    answers = iter([1, 1, 2, 2, 3])

    async def look() -> int:
        return next(answers)

    stream = changes(look, no_wait)
    assert [await anext(stream) for _ in range(5)] == [CHANGED, STILL, CHANGED, STILL, CHANGED]
    await stream.aclose()


async def test_the_list_changes_when_rollouts_end(shared: Dashboard, store: MemoryTraceStore):
    before = await _look_at_list(shared)
    assert await _look_at_list(shared) == before
    await store.append(closing())
    assert await _look_at_list(shared) != before


async def test_a_tree_changes_with_a_turn_and_not_when_another_ends(shared: Dashboard, store: MemoryTraceStore):
    solved, live = await _look_at_tree(shared, SOLVED), await _look_at_tree(shared, LIVE)
    await store.append([TurnRecorded(RUN, 18.5, LIVE, turn(1, 0, (RESULT,), ANSWER))])
    after_turn = await _look_at_tree(shared, LIVE)
    assert after_turn != live
    await store.append(closing())
    assert await _look_at_tree(shared, SOLVED) == solved
    assert await _look_at_tree(shared, LIVE) != after_turn


async def test_an_overview_is_sent_at_once_and_then_when_it_has_changed(
    shared: Dashboard, store: MemoryTraceStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("envhub.dashboard.routes.overview.POLL_S", 0.0)
    stream = _overviews(shared, RUN, 300)
    first = await anext(stream)
    assert first.startswith("event: overview\ndata: ")
    assert json.loads(first.split("data: ", 1)[1])["running"] == 1
    await store.append(closing())
    for _ in range(100):
        said = await anext(stream)
        if "event: overview" in said and json.loads(said.split("data: ", 1)[1])["running"] == 0:
            break
    else:
        pytest.fail("the end of the last rollout was never told")
    await stream.aclose()


async def test_an_overview_that_differs_in_its_time_alone_is_no_news(shared: Dashboard):
    one = await overview(shared, "", 300)
    assert not changed(one, one)
    assert changed(None, one)


async def test_what_many_watch_is_looked_at_once_a_tick():
    looks, count = SharedLooks(60.0), 0

    async def look() -> int:
        nonlocal count
        count += 1
        return count

    seen: list[object] = []
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(_see, looks, look, seen)
    assert seen == [1] * 5
    assert await looks.look("another", look) == 2


async def _see(looks: SharedLooks, look: partial[object], seen: list[object]) -> None:
    seen.append(await looks.look("overview", look))
