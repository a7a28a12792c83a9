"""The line before the servers, where somebody leaves it."""

from typing import cast

import anyio
import pytest

from envhub.contracts.engine import ServedEngine
from envhub.engines.replica import Replica
from envhub.engines.rotation import Rotation

pytestmark = pytest.mark.anyio


@pytest.fixture
def rotation() -> Rotation:
    """Of one server with one place, whose engine nobody asks."""
    rotation = Rotation()
    rotation.replicas["a"] = Replica("a", cast(ServedEngine, None), 1, rotation.grant)
    return rotation


async def test_who_is_cancelled_in_the_line_leaves_it(rotation: Rotation) -> None:
    async with rotation.place("r/0"):
        with anyio.move_on_after(0.01):
            async with rotation.place("r/1"):
                pytest.fail("there is one place")
    with anyio.fail_after(30):
        async with rotation.place("r/2") as replica:
            assert replica.running == 1


async def test_a_place_that_was_given_to_who_was_just_cancelled_goes_to_the_next(rotation: Rotation) -> None:
    waiting, given = anyio.CancelScope(), anyio.Event()

    async def give_up() -> None:
        with waiting:
            async with rotation.place("r/1"):
                pytest.fail("it was cancelled before it heard of its place")

    async def wait() -> None:
        async with rotation.place("r/2"):
            given.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            async with rotation.place("r/0") as replica:
                tasks.start_soon(give_up)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(wait)
                await anyio.wait_all_tasks_blocked()
                waiting.cancel()
            await given.wait()
    assert replica.running == 0
