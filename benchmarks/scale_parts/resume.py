"""How long 1,000 running rollouts of a killed worker take until all of them go on elsewhere."""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass

import anyio

from benchmarks.scale_parts.runs import NULL, Where, opened
from benchmarks.scale_parts.steps import group
from envhub.contracts.events import Event, RolloutEnded, RolloutResumed, RolloutStarted, TurnRecorded
from envhub.contracts.ids import RolloutId
from envhub.monitor.verify import verify
from envhub.rollouts.process_workers import ProcessWorkers

LATENCY_S = 4.0  # a turn: all have had one, and none is through, when the worker dies


@dataclass(frozen=True, slots=True)
class Resumed:
    seconds: float  # from the kill to the last of them
    rollouts: int
    wrong: int  # lost, doubled, or found by verify


async def resumed(where: Where, rollouts: int) -> Resumed:
    """Of a worker with that many, beside others with as many, and no place beyond these."""
    total = rollouts * where.workers
    async with opened(where, LATENCY_S, total) as run:
        turns: set[RolloutId] = set()
        back: list[float] = []
        all_there = anyio.Event()

        def watch(event: Event) -> None:
            if isinstance(event, TurnRecorded):
                turns.add(event.rollout_id)
                if len(turns) == total:
                    all_there.set()
            if isinstance(event, RolloutResumed):
                back.append(time.perf_counter())

        run.recorder.listen(watch)
        assert isinstance(run.workers, ProcessWorkers)
        request = group()
        groups = [await run.manager.start(request) for _ in range(total // request.k)]
        with anyio.fail_after(120):
            await all_there.wait()
        killed_at = time.perf_counter()
        os.kill(run.workers.pids[0], signal.SIGKILL)
        for one in groups:
            await one.handed_on.wait()
        await run.recorder.flush()
        events = [event async for event in run.store.events(NULL)]
        started = Counter(event.rollout_id for event in events if isinstance(event, RolloutStarted))
        ended = Counter(event.rollout_id for event in events if isinstance(event, RolloutEnded))
        wrong = abs(total - len(ended)) + sum(count > 1 for count in (started + ended - started).values())
        wrong += sum(started[id] != ended[id] for id in started) + len((await verify(run.store)).findings)
        return Resumed(max(back) - killed_at, len(back), wrong)
