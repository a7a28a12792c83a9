"""Simulation: whole runs in virtual time, with faults, drawn from one seed. A failure comes back by its seed.

Everything but the model, the clock, the sandboxes and the store's disk is the real thing.
`simulate(Scenario.draw(seed))` plays a scenario, and its Aftermath says what does not hold.

    python -m envhub.testing.simulation SEED [ID ...]

plays one and prints what was recorded, of those rollouts and groups, or of all, and what does not hold.
"""

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import anyio

from envhub.contracts.delivery import Delivery
from envhub.contracts.events import Event, RolloutEnded
from envhub.contracts.ids import TRAINED, GroupId, LeaseId, PolicyVersion, RolloutId
from envhub.contracts.messages import ToolCall
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import FilterRef, GroupRequest, RolloutRequest
from envhub.contracts.sandbox_pool import SandboxPool
from envhub.contracts.store import TraceStore
from envhub.engines.scripted import ScriptInput
from envhub.errors import LeaseLost, StoreError
from envhub.monitor.verify import verify
from envhub.rollouts.admission import Caps
from envhub.rollouts.deliveries import DeliveryQueue
from envhub.rollouts.versions import trained
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing import virtual_time
from envhub.testing.cut_store import CutStore
from envhub.testing.fragile_engine import FragileEngine
from envhub.testing.fragile_sandboxes import FragileBackend
from envhub.testing.runs import ScriptedRun, open_scripted_run
from envhub.testing.scenario import Scenario
from envhub.testing.simulation_aftermath import Aftermath
from envhub.testing.simulation_environments import WORK, place
from envhub.testing.virtual_time import Stuck
from envhub.tokens.call_forms import HERMES

LEASE_S = 60.0
LONGEST_S = 1e6  # of a scenario


def simulate(scenario: Scenario) -> Aftermath:
    """Plays a scenario in virtual time.

    Raises:
        Stuck: it came to a standstill.
        TimeoutError: it goes on and on.
    """
    try:
        with TemporaryDirectory() as snapshots:
            return virtual_time.run(_play, scenario, Path(snapshots), seed=scenario.seed)
    except (Stuck, TimeoutError, BaseExceptionGroup) as error:
        error.add_note(replay(scenario))
        raise


def replay(scenario: Scenario) -> str:
    """How to see that scenario again."""
    return f"python -m envhub.testing.simulation {scenario.seed} plays it again: {scenario}"


async def _play(scenario: Scenario, snapshots: Path) -> Aftermath:
    """In one process after the other, the last of which lives on."""
    world, store = World(scenario, snapshots), MemoryTraceStore()
    with anyio.fail_after(LONGEST_S):
        for death in range(scenario.deaths):
            cut = CutStore(store, scenario.writes, after_commit=death % 2 == 0)
            try:
                await _lived(world, cut, store, resume=death > 0)
            except* StoreError:
                if not cut.is_dead:
                    raise
        aftermath = await _lived(world, store, store, resume=scenario.deaths > 0)
    return replace(aftermath, left=tuple(world.backend.left()))


async def _lived(world: "World", store: TraceStore, durable: MemoryTraceStore, *, resume: bool) -> Aftermath:
    scenario = world.scenario
    async with world.backend.pool(scenario.places) as pool, world.open(pool, store, resume=resume) as run:
        async with anyio.create_task_group() as others:
            others.start_soon(world.announce, run)
            others.start_soon(world.interrupt, run)
            await world.submit(run)
            await run.manager.finish()
            await run.feed.drained()
            others.cancel_scope.cancel()
        events = tuple(await run.events())
        report = await verify(durable)
        members = await run.members()
        return Aftermath(
            scenario=scenario,
            members=members,
            events=events,
            findings=report.findings,
            trained=world.trained,
            oldest=world.oldest,
            free_slots=run.slots.free,
            sandboxes=pool.stats(),
            left=(),  # there may be warm ones yet
            deaths=scenario.deaths,
            ended_at=anyio.current_time(),
        )


class World:
    """The parts around a run: what its model answers, who consumes its groups, who steers it."""

    def __init__(self, scenario: Scenario, snapshots: Path) -> None:
        self._snapshots = snapshots  # the folder of them, which outlives processes
        self.trained: Counter[GroupId] = Counter()
        self.oldest: dict[LeaseId, PolicyVersion] = {}  # version that trains, of what was delivered under that lease
        self.backend = FragileBackend(scenario.seed, scenario.death)
        self.scenario = scenario
        self._version = 0  # of the newest weights
        self._random = Random(f"world {scenario.seed}")

    @asynccontextmanager
    async def open(self, pool: SandboxPool, store: TraceStore, *, resume: bool) -> AsyncIterator[ScriptedRun]:
        """The run, with its consumers at work until nothing is left for them."""
        scenario = self.scenario
        async with (
            open_scripted_run(
                self.answer,
                around=partial(
                    FragileEngine,
                    latency_s=scenario.latency_s,
                    spread=scenario.latency_spread,
                    breaks=scenario.engine_error,
                ),
                store=store,
                snapshots=self._snapshots,
                resume=resume,
                seed=scenario.seed,
                max_running=scenario.max_running,
                caps=Caps(policies={TRAINED: scenario.cap}),
                lease_s=LEASE_S,
                staleness=scenario.staleness,
                iteration_tokens=scenario.iteration_tokens or None,
                sandboxes=pool,
                parks_sandboxes=scenario.parks,
            ) as run,
            anyio.create_task_group() as consumers,
        ):
            run.engine.policy_version = PolicyVersion(self._version)
            for number in range(scenario.consumers):
                consumers.start_soon(self.consume, run.feed, f"trainer-{number}")
            yield run

    def answer(self, asked: ScriptInput) -> str:
        """What the model says; the seed of the call decides it."""
        random = Random(f"answer {asked.seed}")
        if random.random() >= self.scenario.call:
            return f"the answer is {random.randrange(10)}"
        calls = [ToolCall("", "work", {"seed": random.randrange(10**6)}) for _ in range(random.randint(1, 3))]
        return HERMES.write(*calls)

    async def submit(self, run: ScriptedRun) -> None:
        """All groups that are not there yet, some of which are given up soon after."""
        for number in range(run.submitted, self.scenario.groups):
            group = await run.manager.start(self._group(number))
            if self._random.random() < self.scenario.group_cancelled:
                await anyio.sleep(self._random.uniform(0.0, 20.0))
                if not group.ended.is_set():
                    await run.manager.cancel(group.id)

    def _group(self, number: int) -> GroupRequest:
        scenario, random = self.scenario, Random(f"group {self.scenario.seed} {number}")
        return GroupRequest(
            RolloutRequest(place(scenario, random), WORK, limits=scenario.limits),
            scenario.k,
            scenario.max_tries,
            scenario.extra,
            refills=scenario.refills,
            deadline_s=scenario.group_deadline_s,
            priority=random.randrange(scenario.priorities),
            filters=(FilterRef("varied"),) if scenario.seed % 2 else (),
        )

    async def consume(self, deliveries: DeliveryQueue, consumer: str) -> None:
        """A trainer that acks most of what it gets, refuses some, and forgets some."""
        while not deliveries.over:
            delivery = await deliveries.lease(consumer)
            if delivery is not None:
                versions = [span.policy_version for one in delivery.group.outcomes for span in trained(one)]
                if versions:
                    self.oldest[delivery.lease_id] = min(versions)
            await anyio.sleep(self._random.uniform(0.0, LEASE_S * 1.1))
            with suppress(LeaseLost):
                if delivery is not None:
                    await self._settle(deliveries, delivery)

    async def _settle(self, deliveries: DeliveryQueue, delivery: Delivery) -> None:
        luck = self._random.random()
        if luck < self.scenario.refused:
            await deliveries.nack(delivery.lease_id, "not today")
        elif luck >= self.scenario.refused + self.scenario.forgotten:
            await deliveries.ack(delivery.lease_id)
            self.trained[delivery.group.group_id] += 1

    async def interrupt(self, run: ScriptedRun) -> None:
        """An operator who holds some rollouts now and then, lets them go, and ends some for good."""
        manager = run.manager
        while self.scenario.pause:
            await anyio.sleep(self._random.uniform(0.0, 20.0 * (1 - self.scenario.pause)))
            scope = self._random.choice((Scope(), Scope(policy_id=TRAINED), Scope(group_id=GroupId("test-0"))))
            await manager.pause(scope, self._random.choice(list(PauseMode)))
            await anyio.sleep(self._random.uniform(0.0, 20.0 * self.scenario.pause))
            if self._random.random() < self.scenario.abort:
                await manager.abort(Scope(rollout_id=RolloutId(f"test-0-{self._random.randrange(3)}-0")))
            await manager.resume(scope, pinned=self._random.random() < 0.5)

    async def announce(self, run: ScriptedRun) -> None:
        """A trainer that has new weights now and then."""
        while True:
            await anyio.sleep(self._random.uniform(1.0, 30.0))
            self._version += 1
            run.engine.policy_version = PolicyVersion(self._version)
            await run.manager.announce(TRAINED, PolicyVersion(self._version))


def main() -> None:
    seed, *ids = sys.argv[1:]
    aftermath = simulate(Scenario.draw(int(seed)))
    lines = [line for event in aftermath.events if (line := described(event)).split()[0] in ids or not ids]
    lines += aftermath.broken() or ["all invariants hold"]
    sys.stdout.write("\n".join([str(aftermath.scenario), *lines, ""]))


def described(event: Event) -> str:
    """What it is about, what it is, and how it ended."""
    id = getattr(event, "rollout_id", None) or getattr(event, "group_id", None) or event.run_id
    end = (
        f"{event.status} {event.truncated_by} {event.failure} {event.usage}" if isinstance(event, RolloutEnded) else ""
    )
    return f"{id:16} {type(event).__name__} {end}"


if __name__ == "__main__":
    main()
