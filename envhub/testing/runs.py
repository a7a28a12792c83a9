"""A run over a scripted model, for tests: everything is real but the model, and nothing is on disk unless asked for."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

import anyio

from envhub.contracts.engine import Engine, Model
from envhub.contracts.events import Event, RunStarted
from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyId, RunId
from envhub.contracts.members import MemberCounts
from envhub.contracts.outcome import Outcome
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.sandbox_pool import SandboxPool
from envhub.contracts.store import TraceStore
from envhub.engines.scripted import Script, ScriptedEngine
from envhub.environments.pool import EnvironmentPool
from envhub.registry import environments
from envhub.rollouts.admission import NO_CAPS, Caps, Slots
from envhub.rollouts.deliveries import DeliveryQueue, open_deliveries
from envhub.rollouts.iteration import Iteration
from envhub.rollouts.manager import Origin, RolloutManager, open_manager
from envhub.rollouts.outlet import Outlet, OwnConsumer
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import GRACE_S, Endpoints, Platform, ServedPolicy
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.resume import Leftover, leftover
from envhub.rollouts.versions import Staleness, Versions
from envhub.rollouts.workers import LocalWorker
from envhub.store.memory_store import MemoryTraceStore
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from envhub.tokens.chat import ChatRenderer

NO_ENGINES: Mapping[PolicyId, Engine] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run, wherever its rollouts are."""

    id: RunId
    store: TraceStore
    recorder: Recorder
    manager: RolloutManager

    async def play(self, request: GroupRequest) -> tuple[Outcome, ...]:
        """The outcomes of a group's members, in order."""
        group = await self.manager.start(request)
        await group.handed_on.wait()
        return tuple(outcome for _, outcome in sorted(group.outcomes.items()))

    async def events(self) -> list[Event]:
        """All events so far."""
        await self.recorder.flush()
        return [event async for event in self.store.events(self.id)]

    async def members(self) -> MemberCounts:
        return (await self.manager.state()).members


@dataclass(frozen=True, slots=True)
class ScriptedRun(LiveRun):
    """A run whose rollouts are in this process."""

    engine: ScriptedEngine
    slots: Slots
    deliveries: DeliveryQueue | None  # None: its own output is the consumer, or the outlet that was given
    submitted: int = 0  # groups, by the process that it was resumed from

    @property
    def feed(self) -> DeliveryQueue:
        """The queue of a run that was opened with `lease_s`."""
        assert self.deliveries is not None
        return self.deliveries


@asynccontextmanager
async def open_scripted_run(
    script: Script,
    *,
    store: TraceStore | None = None,
    run_id: str = "test",
    seed: int = 0,
    max_running: int = 8,
    latency_s: float = 0.0,
    around: Callable[[Engine], Engine] = lambda engine: engine,
    sandboxes: SandboxPool | None = None,
    parks_sandboxes: bool = False,
    endpoints: Endpoints | None = None,
    outlet: Outlet | None = None,
    lease_s: float = 0.0,
    staleness: Staleness | None = None,
    caps: Caps = NO_CAPS,
    grace_s: float = GRACE_S,
    close_s: float = 30.0,
    iteration_tokens: int | None = None,
    resume: bool = False,
    snapshots: Path | None = None,
    engines: Mapping[PolicyId, Engine] = NO_ENGINES,
) -> AsyncIterator[ScriptedRun]:
    """A run whose model answers what `script` writes, through the engine that `around` makes of the scripted one. Its
    own output is the consumer, unless an outlet is given, or a time for leases of deliveries (on the loop's clock).
    With `resume` it goes on with what the store has of it; `engines` are those of further policies, which are frozen,
    or of the one under training."""
    store = store or MemoryTraceStore()
    tokenizer = ByteTokenizer()
    engine = ScriptedEngine(script, tokenizer, latency_s=latency_s)
    model = Model("scripted", around(engine), tokenizer, CHATML_TEMPLATE)
    id = RunId(run_id)
    rest = await leftover(store, id) if resume else Leftover(id, 0.0, seed, opening=[RunStarted(id, 0.0, seed, {})])
    await store.append(rest.opening)
    async with AsyncExitStack() as stack:
        recorder = await stack.enter_async_context(open_recorder(store))
        slots = Slots(max_running, caps)
        pauses = Pauses()
        iteration = _iteration(iteration_tokens, staleness, pauses)
        platform = Platform(
            _served(model, engines),
            EnvironmentPool(close_s=close_s, grace_s=grace_s, waits=sandboxes.waits if sandboxes else None),
            slots,
            recorder,
            pauses,
            iteration,
            sandboxes,
            endpoints,
            parks_sandboxes,
            grace_s,
            snapshots,
        )
        versions = Versions(rest.versions, staleness, rest.accepted, iteration=iteration)
        queue = None
        if lease_s:
            queue = await stack.enter_async_context(
                open_deliveries(recorder, versions, lease_s=lease_s, clock=anyio.current_time, timer=anyio.current_time)
            )
        outlet = outlet or queue or OwnConsumer(recorder)
        manager = await stack.enter_async_context(
            open_manager(
                Origin(id, rest.seed, rest.submitted, rest.kept, tuple(rest.pending), rest.keys),
                LocalWorker(platform),
                recorder,
                outlet,
                versions,
                max_groups=1_000,
            )
        )
        await _go_on(manager, rest)
        yield ScriptedRun(id, store, recorder, manager, engine, slots, queue, rest.submitted)


def _served(model: Model, engines: Mapping[PolicyId, Engine]) -> dict[PolicyId, ServedPolicy]:
    """The model, and the same over other engines: frozen, unless they are of the policy under training."""
    written = renderer(CHATML_TEMPLATE)
    return {
        policy_id: ServedPolicy(replace(model, engine=engine), written, frozen=policy_id != TRAINED)
        for policy_id, engine in {TRAINED: model.engine, **engines}.items()
    }


def _iteration(tokens: int | None, staleness: Staleness | None, pauses: Pauses) -> Iteration | None:
    return Iteration(tokens, staleness.step_rollouts, pauses) if staleness and tokens else None


async def _go_on(manager: RolloutManager, rest: Leftover) -> None:
    """Goes on with what an earlier process left."""
    for stored in rest.undelivered:
        await manager.hand_on_stored(stored)
    for group in rest.running:
        await manager.go_on(group)


@cache
def renderer(template: str) -> ChatRenderer:
    """Of the scripted model. To compile its template takes as long as a small run."""
    return ChatRenderer(ByteTokenizer(), template, name="scripted")


def request(environment: str, *, k: int = 1, max_tries: int = 1, task: int = 0, **changes: object) -> GroupRequest:
    """A group on one task of a registered environment; `changes` are fields of the RolloutRequest."""
    chosen = environments.get(environment).load_tasks()[task]
    rollout = RolloutRequest(EnvironmentRef(EnvironmentId(environment)), chosen, **changes)  # type: ignore[arg-type]
    return GroupRequest(rollout, k, max_tries)
