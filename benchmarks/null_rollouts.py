"""What a rollout costs when the model costs nothing: N live episodes of 4 turns against an engine that only waits.

An episode: 4 turns, each answered after L seconds with 32 tokens over a prompt that grows by 64; 3 tool calls, no two
with the same result; one judge; everything rendered, recorded to SQLite and scored. No sandbox. Starts are paced over R
seconds, so the ideal is R + 4 L. With --children the first call of each episode starts another one and waits for it,
which makes it R + 8 L. The floor, in a process of its own in the same run, with the same garbage collection: bare
coroutines that wait as long and keep the same arrays. What was recorded is verified afterwards.

With --processes the rollouts are in worker processes: CPU and memory are those of all of them and their manager
together, the lag is that of the worst loop.

    python -m benchmarks.null_rollouts [--quick] [--processes N] [--rollouts N] [--latency L] [--ramp R] [--children]
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import anyio

from benchmarks.null_parts.floor import play_floor
from benchmarks.null_parts.load import ALONE, GOLD, PARENT, QUESTION, K, Load, paced
from benchmarks.null_parts.meter import Cost, Meter
from benchmarks.null_parts.report import figures, machine
from benchmarks.null_parts.workers import lags, open_workers
from envhub.app import LOOP
from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import Event, RolloutEnded, RolloutStarted, RunStarted
from envhub.contracts.ids import RunId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.task import Task
from envhub.monitor.verify import verify
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.manager import Origin, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.versions import Versions
from envhub.store.sql_store import open_store


class Tally(OwnConsumer):
    """The run's own consumer, which counts and keeps nothing."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self.scored = self.turns = self.prompt_tokens = self.live = 0
        recorder.listen(self._count)

    def _count(self, event: Event) -> None:
        self.live += isinstance(event, RolloutStarted) - isinstance(event, RolloutEnded)

    async def put(self, group: ClosedGroup) -> None:
        self.scored += sum(outcome.reward == 1.0 for outcome in group.outcomes)
        for outcome in (one for member in group.outcomes for one in member.tree()):
            self.turns += outcome.usage.turns
            self.prompt_tokens += outcome.usage.prompt_tokens
        await super().put(group)


async def play_envhub(load: Load) -> Cost:
    run_id = RunId("null")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = await open_store(str(folder / "null.db"))
        stack.push_async_callback(store.close)
        await store.append([RunStarted(run_id, time.time(), 0, {})])
        recorder = await stack.enter_async_context(open_recorder(store))
        tally = Tally(recorder)
        chosen = EnvironmentRef(PARENT if load.children else ALONE)
        request = GroupRequest(RolloutRequest(chosen, Task.ask(QUESTION, GOLD)), k=K)
        async with open_workers(load, recorder, folder) as workers:
            meter = Meter(lambda: tally.live)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(meter.sample)
                async with open_manager(
                    Origin(run_id, 0), workers, recorder, tally, Versions(), max_groups=load.rollouts
                ) as manager:
                    await paced(load, partial(manager.start, request))
                tasks.cancel_scope.cancel()
            cost = meter.cost(load.rollouts - tally.scored, tally.prompt_tokens / max(tally.turns, 1))
        assert tally.turns == load.turns or tally.scored < load.rollouts, "a tree is not whole"
        return replace(
            cost, lag_p99_ms=max(cost.lag_p99_ms, *lags(folder)), findings=len((await verify(store)).findings)
        )


PARTS: Mapping[str, Callable] = {"floor": play_floor, "envhub": play_envhub}


def measured(part: str, load: Load) -> Cost:
    """The cost of one part, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (part, load))


def _measure(part: str, load: Load) -> Cost:
    with rare_collections():
        return anyio.run(PARTS[part], load, backend_options=LOOP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4,000 rollouts: under 45 s")
    parser.add_argument("--rollouts", type=int, default=10_000, help=f"N, a multiple of {K}")
    parser.add_argument("--latency", type=float, default=1.0, help="L, seconds a turn")
    parser.add_argument("--ramp", type=float, default=4.0, help="R, seconds over which episodes start")
    parser.add_argument(
        "--processes", type=int, default=0, help="worker processes; 0: rollouts run where they are recorded"
    )
    parser.add_argument("--children", action="store_true", help="each rollout starts another one")
    given = parser.parse_args()
    load = Load(4_000 if given.quick else given.rollouts, given.latency, given.ramp, given.children, given.processes)
    print(f"{load.rollouts} rollouts, ramp {load.ramp_s:g} s, ideal {load.ideal_s:g} s", file=sys.stderr)
    costs = {}
    for part in PARTS:
        costs[part] = measured(part, load)
        print(f"{part:7} {asdict(costs[part])}", file=sys.stderr)
    print(json.dumps({"benchmark": "null_rollouts", "machine": machine(), "figures": figures(load, costs)}))


if __name__ == "__main__":
    main()
