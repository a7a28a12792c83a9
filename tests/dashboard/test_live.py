"""Live events: a page hears of changes, and of nothing else."""

import pytest

from envhub.contracts.events import TurnRecorded
from envhub.dashboard.live import CHANGED, STILL, changes, look_at_list, look_at_tree
from envhub.store.memory_store import MemoryTraceStore
from tests.dashboard.recording import ANSWER, LIVE, RESULT, RUN, SOLVED, closing, turn

pytestmark = pytest.mark.anyio


async def no_wait() -> None:
    pass


async def test_a_page_hears_at_once_and_then_of_each_change_only():
    answers = iter([1, 1, 2, 2, 3])

    async def look() -> int:
        return next(answers)

    stream = changes(look, no_wait)
    assert [await anext(stream) for _ in range(5)] == [CHANGED, STILL, CHANGED, STILL, CHANGED]
    await stream.aclose()


async def test_the_list_changes_with_a_turn_of_a_running_rollout(store: MemoryTraceStore):
    before = await look_at_list(store)
    assert await look_at_list(store) == before
    await store.append([TurnRecorded(RUN, 18.5, LIVE, turn(1, 0, (RESULT,), ANSWER))])
    assert await look_at_list(store) != before


async def test_a_rollout_does_not_change_when_another_ends(store: MemoryTraceStore):
    solved, live = await look_at_tree(store, SOLVED), await look_at_tree(store, LIVE)
    await store.append(closing())
    assert await look_at_tree(store, SOLVED) == solved
    assert await look_at_tree(store, LIVE) != live
