"""Many tasks that wait for few sandboxes: none starves, and every lease is returned.

N rollouts start at once, each of which leases a real sandbox, writes a file, reads it back by a command and ends. They
are to be served in the order of asking; the figure of starvation is by how many others the unluckiest was overtaken.
The floor is the same work without rollouts and without a pool: P sandboxes that are made, used and destroyed side by
side, N / P times.

    python -m benchmarks.waiting [--quick] [--rollouts N] [--sandboxes P] [--backend NAME]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import anyio

from envhub.app import LOOP, open_sandboxes
from envhub.contracts.command import ExecRequest
from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.policy import Action
from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec, Snapshot
from envhub.contracts.sandbox_pool import PoolStats, SandboxLease, SandboxPool
from envhub.contracts.task import Task
from envhub.contracts.waiting import Holder
from envhub.registry import environment
from envhub.testing.runs import open_scripted_run, request
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

K = 10
SPEC = SandboxSpec(memory_mb=128, pids=16, disk_mb=8)
READ = ExecRequest(("cat", "task"))
ID = "bench/waiting-v0"
WAIT_S = 3_600.0


class Watched:
    """A pool that knows who was served out of turn."""

    def __init__(self, pool: SandboxPool) -> None:
        self.waits = pool.waits
        self.stats = pool.stats
        self.overtaken = 0  # the unluckiest, by so many
        self._pool = pool
        self._asked = count(1)

    @asynccontextmanager
    async def lease(
        self, spec: SandboxSpec, holder: Holder, *, files: Snapshot | None = None
    ) -> AsyncIterator[SandboxLease]:
        number = next(self._asked)
        async with self._pool.lease(spec, holder, files=files) as lease:
            self.overtaken = max(self.overtaken, lease.token - number)  # tokens count grants
            yield lease


@dataclass(frozen=True, slots=True)
class Cost:
    wall_s: float
    floor_s: float  # of one sandbox's turn, times those that a place serves
    scored: int
    overtaken: int
    stats: PoolStats


@environment(ID, tasks=[Task.ask("wait")], needs_sandbox=True)
class Waiting(Environment):
    """One step, with a sandbox."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(reward=await used(await self._ctx.sandbox(SPEC)), terminated=True)


async def used(sandbox: Sandbox) -> float:
    """1.0 where what was written is what a command reads."""
    await sandbox.write("task", b"42")
    return float((await sandbox.exec(READ)).stdout == b"42")


async def play(rollouts: int, places: int, name: str) -> Cost:
    async with open_sandboxes(name) as backend:
        if backend is None:
            raise SystemExit("no sandbox back end isolates here; see `envhub doctor`")
        print(f"{rollouts} rollouts, {places} sandboxes by {backend.name}", file=sys.stderr)
        floor_s = await floor(backend, places) * rollouts / places
        async with (
            open_pool(backend, PoolLimits(places, wait_s=WAIT_S)) as pool,
            open_scripted_run(lambda asked: "done", sandboxes=(watched := Watched(pool))) as run,
        ):
            began = time.perf_counter()
            groups = [await run.manager.start(request(ID, k=K, max_tries=2)) for _ in range(rollouts // K)]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(progress, pool, rollouts)
                for group in groups:
                    await group.handed_on.wait()
                tasks.cancel_scope.cancel()
            for failure in {outcome.failure for group in groups for outcome in group.outcomes.values()} - {None}:
                print(failure, file=sys.stderr)
            scored = sum(outcome.reward == 1.0 for group in groups for outcome in group.outcomes.values())
            return Cost(time.perf_counter() - began, floor_s, scored, watched.overtaken, pool.stats())


async def floor(backend: SandboxBackend, places: int) -> float:
    """Seconds of `places` sandboxes side by side, from their creation to their end."""

    async def one() -> None:
        sandbox = await backend.create(SPEC)
        try:
            await used(sandbox)
        finally:
            await sandbox.close()

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(places):
            tasks.start_soon(one)
    return time.perf_counter() - began


async def progress(pool: SandboxPool, rollouts: int) -> None:
    while True:
        await anyio.sleep(5)
        print(f"{pool.stats().granted} of {rollouts} have had a sandbox", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 rollouts for 20 sandboxes: under 45 s")
    parser.add_argument("--rollouts", type=int, default=10_000, help=f"N, a multiple of {K}")
    parser.add_argument("--sandboxes", type=int, default=200, help="P")
    parser.add_argument("--backend", default="auto", help="as --sandbox of envhub")
    given = parser.parse_args()
    rollouts, places = (1_000, 20) if given.quick else (given.rollouts, given.sandboxes)
    cost = anyio.run(play, rollouts, places, given.backend, backend_options=LOOP)
    print(json.dumps({"benchmark": "waiting", "machine": machine(), "figures": figures(rollouts, cost)}))


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {LOOP}, load {os.getloadavg()[0]:.1f}"


def figures(rollouts: int, cost: Cost) -> list[dict[str, object]]:
    stats = cost.stats
    lost = stats.expired + stats.refused
    left = stats.granted - stats.returned + stats.live + stats.waiting
    return [
        figure("scored", cost.scored, "rollouts", f"{rollouts}", ok=cost.scored == rollouts),
        figure("tried_again", stats.granted - rollouts, "rollouts", "", ok=None),
        figure("leases_not_returned", left, "leases", "0", ok=left == 0),
        figure("leases_expired_or_refused", lost, "leases", "0", ok=lost == 0),
        figure("overtaken_by", cost.overtaken, "leases", "0", ok=cost.overtaken == 0),
        figure("wall", cost.wall_s, "s", "<= 2x floor", ok=cost.wall_s <= 2 * cost.floor_s)
        | {"floor": round(cost.floor_s, 2), "ratio": round(cost.wall_s / cost.floor_s, 2)},
        figure("mean_wait", stats.wait_s / max(stats.granted, 1), "s", "", ok=None),
    ]


def figure(name: str, value: float, unit: str, goal: str, *, ok: bool | None) -> dict[str, object]:
    return {"name": name, "value": round(value, 3), "unit": unit, "goal": goal, "ok": ok}


if __name__ == "__main__":
    main()
