"""The clock of an episode stands still while it waits for the platform."""

import anyio
import pytest

from envhub.rollouts.clock import EpisodeClock

pytestmark = pytest.mark.anyio


async def test_time_that_is_over_ends_what_runs() -> None:
    clock = EpisodeClock(0.01)
    with anyio.fail_after(5), clock.running():
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
