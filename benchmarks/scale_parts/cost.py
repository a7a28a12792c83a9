"""What the load costs in one place."""

import time
from dataclasses import dataclass

from benchmarks.scale_parts.runs import Where, cpu_s, opened
from benchmarks.scale_parts.steps import TURNS
from envhub.monitor.verify import verify

WARM_UP = 200  # rollouts


@dataclass(frozen=True, slots=True)
class Cost:
    wall_s: float
    cpu_us_per_turn: float  # of all processes,
    manager_us_per_turn: float  # and of them the manager
    rollouts_per_s: float


async def cost_of(where: Where, rollouts: int) -> Cost:
    """Of that many rollouts, played as fast as it goes, to where all is recorded."""
    async with opened(where, 0.0, 256) as run:
        await run.play(WARM_UP)
        processes = run.processes()
        began, used, own = time.perf_counter(), cpu_s(processes), cpu_s(processes[:1])
        await run.play(rollouts)
        await run.recorder.flush()
        wall_s = time.perf_counter() - began
        used, own = cpu_s(processes) - used, cpu_s(processes[:1]) - own
        assert len(run.ended) == WARM_UP + rollouts
        assert not (await verify(run.store)).findings
    turns = rollouts * TURNS
    return Cost(wall_s, used / turns * 1e6, own / turns * 1e6, rollouts / wall_s)
