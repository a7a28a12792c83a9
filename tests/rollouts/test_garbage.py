import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import anyio
import pytest

from envhub.contracts.pause import PauseMode
from envhub.rollouts.garbage import THRESHOLDS, rare_collections
from envhub.rollouts.live import LiveRollout
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.worlds import HANG, RESET, STEP, THREE

pytestmark = pytest.mark.anyio


def test_collections_are_rare_within_and_as_before_afterwards() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with rare_collections():
        assert gc.get_threshold() == THRESHOLDS
        assert gc.get_freeze_count() > frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


async def walked(run: ScriptedRun) -> None:
    await run.play(replace(request("test/walk-v0", task=THREE), k=4))


async def failed(run: ScriptedRun) -> None:
    for task in (RESET, STEP):
        await run.play(replace(request("test/walk-v0", task=task), max_tries=2))


async def brought_up_children(run: ScriptedRun) -> None:
    await run.play(request("test/branching-v0"))


async def was_paused(run: ScriptedRun) -> None:
    group = await run.manager.start(request("test/walk-v0", task=THREE))
    await anyio.wait_all_tasks_blocked()
    await run.manager.pause(mode=PauseMode.CUT)
    await anyio.wait_all_tasks_blocked()
    await run.manager.resume()
    await group.handed_on.wait()


async def was_cancelled(run: ScriptedRun) -> None:
    group = await run.manager.start(request("test/walk-v0", task=HANG))
    await anyio.wait_all_tasks_blocked()
    await run.manager.cancel(group.id)


@pytest.mark.parametrize("lived", [walked, failed, brought_up_children, was_paused, was_cancelled])
async def test_a_rollout_that_ended_is_freed_at_once(lived: Callable[[ScriptedRun], Awaitable[None]]) -> None:
    """Its tokens may be many megabytes, and a collection comes after 40 million objects."""
    async with open_scripted_run(lambda asked: "a", latency_s=0.01) as run:
        with no_collections():
            others = {id(each): each for each in live_rollouts()}  # that other tests hold
            await lived(run)
            await anyio.wait_all_tasks_blocked()
            assert [each for each in live_rollouts() if id(each) not in others] == []


def live_rollouts() -> list[LiveRollout]:
    return [each for each in gc.get_objects() if isinstance(each, LiveRollout)]


@contextmanager
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
