"""Play while workers are hurt, and what must hold afterwards."""

from collections import Counter
from collections.abc import Awaitable, Callable

import anyio

from envhub.contracts.environment import Resume
from envhub.contracts.events import RolloutEnded, RolloutStarted
from envhub.monitor.verify import verify
from envhub.testing.runs import request
from tests.rollouts.crews import CrewRun


async def play_while(run: CrewRun, hurt: Callable[[], Awaitable[None]]) -> None:
    """Groups of each way to resume, one after the other, until it is done; nothing is lost, and nothing is twice."""
    done = anyio.Event()

    async def go_on() -> None:
        await hurt()
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(go_on)
        while not done.is_set():
            for group in [await run.manager.start(request(f"test/long-{way}-v0", k=4)) for way in Resume]:
                await group.handed_on.wait()
    assert (await run.members()).drained
    assert not (await verify(run.store)).findings
    events = await run.events()
    started = Counter(event.rollout_id for event in events if isinstance(event, RolloutStarted))
    assert started == Counter(event.rollout_id for event in events if isinstance(event, RolloutEnded))
    assert set(started.values()) == {1}
