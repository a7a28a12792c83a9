"""A lease from a pool that has a warm sandbox, while it makes or resets others in the background."""

import time
from collections import deque

import anyio

from benchmarks.sandbox_parts.floors import bare_lease
from benchmarks.sandbox_parts.report import Floor, Report, Sizes, median_ms, p99_ms
from envhub.contracts.ids import RolloutId
from envhub.contracts.sandbox import SandboxBackend, SandboxSpec
from envhub.contracts.waiting import Holder
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

WARM = 8
LOOK_S = 0.0005


async def leases(backend: SandboxBackend, report: Report, sizes: Sizes) -> None:
    for reusable, end in ((False, "destroyed"), (True, "reset")):
        took, floor = await measured(backend, SandboxSpec(reusable=reusable), sizes.leases)
        name, bare = f"{backend.name}_warm_lease_{end}_after_use", "a limiter and a deque"
        report.add(f"{name}_p50", median_ms(took), "ms", Floor(median_ms(floor), bare), most=1)
        report.add(f"{name}_p99", p99_ms(took), "ms", Floor(p99_ms(floor), bare), most=5)


async def measured(backend: SandboxBackend, spec: SandboxSpec, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each lease, and of the bare one beside it."""
    took, floor = list[float](), list[float]()
    places, ready = anyio.CapacityLimiter(WARM), deque[object](range(WARM))
    async with open_pool(backend, PoolLimits(max_live=2 * WARM), warm={spec: WARM}) as pool:
        for number in range(count):
            while not pool.stats().warm.get(spec):  # noqa: ASYNC110 (a pool tells nobody that one is warm)
                await anyio.sleep(LOOK_S)
            began = time.perf_counter()
            async with pool.lease(spec, Holder(RolloutId(f"{number}"))) as lease:
                took.append(time.perf_counter() - began)
                await lease.sandbox.stats()  # it is there
            began = time.perf_counter()
            async with bare_lease(places, ready):
                floor.append(time.perf_counter() - began)
    return took, floor
