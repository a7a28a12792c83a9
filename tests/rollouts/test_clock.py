"""The clock of an episode stands still while it waits for the platform."""

import math

import anyio
import pytest

from envhub.rollouts.clock import EpisodeClock

pytestmark = pytest.mark.anyio


async def test_time_that_is_over_ends_what_runs() -> None:
    clock = EpisodeClock(0.01)
    with anyio.fail_after(30), clock.running():
        await anyio.sleep_forever()
    assert clock.ran_out
    assert clock.left == 0


async def test_time_of_waiting_does_not_count() -> None:
    clock = EpisodeClock(0.5)
    with clock.running():
        with clock.stopped(), clock.stopped():
            await anyio.sleep(0.6)
        before = clock.left
        await anyio.lowlevel.checkpoint()
    assert not clock.ran_out
    assert 0 < before <= 0.5


async def test_what_has_not_started_has_all_its_time() -> None:
    assert EpisodeClock(3).left == 3


async def test_of_who_waits_for_children_time_passes_while_it_does_for_one_of_them() -> None:
    parent = EpisodeClock(100)
    one, other = EpisodeClock(10, parent), EpisodeClock(10, parent)
    with parent.running():
        with parent.child(), parent.child():
            assert not await passes(parent)  # both wait for a slot
            with one.running(), other.running():
                with one.stopped():
                    assert await passes(parent)
                    with other.stopped():
                        assert not await passes(parent)
                assert await passes(parent)
            assert not await passes(parent)  # what they hold is given back
        assert await passes(parent)
    assert not await passes(parent)


async def test_a_grandchild_that_waits_holds_all_above_it() -> None:
    root = EpisodeClock(100)
    below = EpisodeClock(10, root)
    with root.running(), root.child(), below.running():
        with below.child():
            assert not await passes(root)
            assert not await passes(below)
            with EpisodeClock(1, below).running():
                assert await passes(root)
        assert await passes(root)


async def test_a_child_without_end_counts_once() -> None:
    parent = EpisodeClock(100)
    child = EpisodeClock(math.inf, parent)
    with parent.running(), parent.child(), child.running():
        with child.stopped(), child.stopped():
            assert not await passes(parent)
        assert await passes(parent)


async def passes(clock: EpisodeClock) -> bool:
    before = clock.left
    await anyio.sleep(0.002)
    return clock.left < before
