"""Supply: the groups of a run that a trainer in this process feeds on, started no faster than it trains."""

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from envhub.app.live_run import Run
from envhub.contracts.rollout import GroupRequest
from envhub.errors import Fault
from envhub.rollouts.group import RolloutGroup


async def begin_supply(run: Run, tasks: TaskGroup, requests: Sequence[GroupRequest], places: int) -> anyio.Semaphore:
    """Plays what an earlier process left of the run, and then these groups, among the tasks; to be released for each
    group that was trained on. So many groups may start at first. Below 0: as many are under way beyond what may be, and
    are trained on before another one starts, lest it be as many steps older.

    A group of which nothing is left to train on ends the tasks, by a Fault.
    """
    room = anyio.Semaphore(max(0, places))
    tasks.start_soon(_supply, run, requests, room, max(0, -places))
    return room


async def _supply(run: Run, requests: Sequence[GroupRequest], room: anyio.Semaphore, surplus: int) -> None:
    await run.play()
    for _ in range(surplus):
        await room.acquire()
    async with anyio.create_task_group() as watches:
        for request in requests:
            await room.acquire()
            watches.start_soon(_watch, await run.manager.start(request))
    await run.manager.finish()  # so that the feed says where it ends


async def _watch(group: RolloutGroup) -> None:
    await group.handed_on.wait()
    failures = [outcome.failure for outcome in group.outcomes.values() if outcome.failure]
    if len(failures) == len(group.outcomes):
        raise Fault(f"group '{group.id}' gave nothing to train on: {failures[0].message}", failures[0].boundary)
