"""Where rollouts run, put together from plain settings: this process, or worker processes."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import anyio
import msgspec

from envhub.contracts.engine import Model
from envhub.contracts.events import Event, TurnRecorded
from envhub.contracts.ids import TRAINED, PolicyId
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.store import TraceStore
from envhub.environments.pool import EnvironmentPool
from envhub.errors import Boundary, Fault, UnknownName, UsageError, boundary
from envhub.gateway.call_rules import CallRules
from envhub.gateway.on_demand import open_on_demand
from envhub.monitor.loop_lag import watch_loop
from envhub.registry import environments, sandbox_backends
from envhub.rollouts.admission import Caps, Slots
from envhub.rollouts.iteration import Iteration
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import Endpoints, MessagePolicy, Platform, ServedPolicy
from envhub.rollouts.policies import PolicySettings, open_policies
from envhub.rollouts.process_workers import SharedPauses, open_process_workers
from envhub.rollouts.ray_places import RayPlaces
from envhub.rollouts.recorder import Recorder, Recording
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.worker import WAY_OUT
from envhub.rollouts.workers import LocalWorker, Workers
from envhub.store.sealed import gist_of
from sandboxes.choose import open_backend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

CLOSE_S = 10.0  # for a store to end what it is doing
MAIN = f"{__name__}:worker_main"


@dataclass(frozen=True, slots=True)
class PlatformSettings:
    """What a platform is made of; limits count for all workers together."""

    policies: Mapping[PolicyId, PolicySettings]
    sandbox: str  # "": none
    pool: PoolLimits
    warm_sandboxes: int
    park_sandboxes: bool
    max_running: int
    caps: Caps
    started_at: float  # of the run, seconds since the epoch
    exact: bool  # the policy under training gives token ids with log probabilities of its own
    modules: tuple[str, ...] = ()  # that register what rollouts name,
    environments: tuple[str, ...] = ()  # of them, those that must be there
    call_rules: CallRules = CallRules()  # of agents at a gateway of the run's own
    snapshots: str = ""  # folder for files of sandboxes; "": none


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where the rollouts of a run are."""

    workers: Workers
    iteration: Iteration | None
    model: Model | None  # of the policy under training; None: it has none, or worker processes have their own
    platform: Platform | None = None  # None: each worker process has its own


MakeIteration: TypeAlias = Callable[[Pauses], Iteration | None]


@asynccontextmanager
async def open_here(
    settings: PlatformSettings,
    backend: SandboxBackend | None,
    recorder: Recorder,
    make_iteration: MakeIteration,
    endpoints: Endpoints | None,
) -> AsyncIterator[Workplace]:
    """This process.

    Raises:
        UsageError: the model can't be had.
    """
    pauses = Pauses()
    iteration = make_iteration(pauses)
    async with (
        open_policies(settings.policies, settings.started_at, exact=settings.exact) as policies,
        open_platform(settings, policies, backend, recorder, pauses, iteration, endpoints) as platform,
    ):
        acting = policies[TRAINED]
        model = acting.model if isinstance(acting, ServedPolicy) else None
        yield Workplace(LocalWorker(platform), iteration, model, platform)


@asynccontextmanager
async def open_processes(
    bounds: Bounds,
    places: RayPlaces | None,
    settings: PlatformSettings,
    recorder: Recorder,
    make_iteration: MakeIteration,
) -> AsyncIterator[Workplace]:
    """As many worker processes as there is work for, in those places or on this machine.

    Raises:
        UsageError: they can't be opened like that.
    """
    pauses = SharedPauses()
    iteration = make_iteration(pauses)
    if iteration:
        recorder.listen(partial(_count, iteration))
    kinds = {environments.get(name).requires for name in settings.environments} or {()}
    crew = Crew(bounds, MAIN, msgspec.msgpack.encode(settings), settings.policies.keys(), kinds=kinds)
    opening = _on_ray(places, crew, recorder, pauses) if places else open_process_workers(crew, recorder, pauses)
    async with opening as workers:
        yield Workplace(workers, iteration, None)


def _on_ray(
    places: RayPlaces, crew: Crew, recorder: Recorder, pauses: SharedPauses
) -> AbstractAsyncContextManager[Workers]:
    try:
        from envhub.rollouts.ray_workers import open_ray_workers
    except ModuleNotFoundError as error:
        raise UsageError(f"workers on Ray need the package '{error.name}'; install envhub-rl[ray]") from error
    return open_ray_workers(places, crew, recorder, pauses)


def _count(iteration: Iteration, event: Event) -> None:
    if isinstance(event, TurnRecorded):
        iteration.sampled(gist_of(event).sampled_tokens)


@asynccontextmanager
async def open_platform(
    settings: PlatformSettings,
    policies: Mapping[PolicyId, ServedPolicy | MessagePolicy],
    backend: SandboxBackend | None,
    recorder: Recording,
    pauses: Pauses,
    iteration: Iteration | None,
    endpoints: Endpoints | None,
) -> AsyncIterator[Platform]:
    """A platform. Without endpoints it has some of its own.

    Raises:
        UnknownName: a cap is of an engine that the run does not have.
    """
    check_caps(settings.caps, policies)
    async with AsyncExitStack() as stack:
        pool = None
        if backend:
            pool = await stack.enter_async_context(open_pool(backend, settings.pool, warm_each=settings.warm_sandboxes))
        yield Platform(
            policies=policies,
            environments=EnvironmentPool(waits=pool.waits if pool else None),
            slots=Slots(settings.max_running, settings.caps),
            recorder=recorder,
            pauses=pauses,
            iteration=iteration,
            sandboxes=pool,
            sandbox_quotas=pool.quotas.by_name if pool else {},
            parks_sandboxes=settings.park_sandboxes,
            endpoints=endpoints or await stack.enter_async_context(open_on_demand(settings.call_rules)),
            snapshots=Path(settings.snapshots) if settings.snapshots else None,
        )


@asynccontextmanager
async def worker_main(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """The platform of a worker process, with its own models and its own sandboxes."""
    told = msgspec.msgpack.decode(settings, type=PlatformSettings)
    _import(told.modules)
    _check_known(told.environments)
    async with AsyncExitStack() as stack:
        policies = await stack.enter_async_context(open_policies(told.policies, told.started_at, exact=told.exact))
        backend = None
        if told.sandbox:
            backend = await stack.enter_async_context(open_backend(told.sandbox, sandbox_backends()))
        await stack.enter_async_context(watch_loop())
        yield await stack.enter_async_context(open_platform(told, policies, backend, recorder, Pauses(), None, None))


def check_caps(caps: Caps, policies: Mapping[PolicyId, ServedPolicy | MessagePolicy]) -> None:
    """Finds caps that would hold nobody back.

    Raises:
        UnknownName: of an engine or a policy that the run does not have.
    """
    models = {served.engine for served in policies.values()}
    for kind, names, known in (("engine", caps.engines, models), ("policy", caps.policies, policies.keys())):
        for name in names:
            if name not in known:
                raise UnknownName.of(kind, name, known)


async def close(store: TraceStore) -> None:
    """Closes it also where the run is cancelled."""
    with anyio.move_on_after(CLOSE_S, shield=True):
        await store.close()


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        try:
            with boundary(Boundary.OPERATOR):
                import_module(name)
        except Fault as fault:
            raise UsageError(f"can't import '{name}': {fault}") from fault


def _check_known(names: Sequence[str]) -> None:
    for name in names:
        try:
            environments.get(name)
        except UsageError as error:
            raise UsageError(f"has {error}; {WAY_OUT}") from error
