"""A live run: settings become its store, recorder, workers, manager and feed."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

from envhub.app.settings import Settings, split_address
from envhub.app.telemetry import traced
from envhub.app.traces import open_traces
from envhub.contracts.engine import Model
from envhub.contracts.events import OperatorActed
from envhub.contracts.guard import Guard
from envhub.contracts.ids import RunId
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.store import BrowsableStore
from envhub.environments.requirements import check_requirements
from envhub.errors import UsageError, bare_usage_errors
from envhub.feed.server import check_address
from envhub.feed.server import serve as serve_feed
from envhub.monitor.acts import Acts
from envhub.monitor.loop_lag import LoopWatch, watch_loop
from envhub.monitor.vitals import VitalSigns
from envhub.registry import engines, environments, sandbox_backends
from envhub.rollouts.beginning import earlier_run, new_run, recorded_job
from envhub.rollouts.deliveries import DeliveryQueue, open_deliveries
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.iteration import Iteration
from envhub.rollouts.job import Course, Job
from envhub.rollouts.manager import Origin, RolloutManager, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import Endpoints
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.resume import Leftover
from envhub.rollouts.rollout_files import folder_of_run
from envhub.rollouts.versions import Versions
from envhub.store.address import beside
from envhub.store.sql_store import SqlTraceStore
from envhub.worker import close, open_here, open_processes
from sandboxes.choose import open_backend


def open_sandboxes(name: str) -> AbstractAsyncContextManager[SandboxBackend | None]:
    """The back end of that name, or for "auto" the best that isolates here; None where none does.

    Raises:
        UsageError: a back end that was named and does not work here.
    """
    return open_backend(name, sandbox_backends())


@dataclass(frozen=True, slots=True)
class Run:
    """A live run: a new one, or one that goes on."""

    id: RunId
    job: Job | None
    model: Model | None  # that is trained; None: it is known to worker processes, or to nobody but a server
    store: BrowsableStore
    recorder: Recorder
    manager: RolloutManager
    deliveries: DeliveryQueue | None  # None: no feed
    feed_address: str  # "": no feed
    guard: Guard  # of all its servers
    acts: Acts
    loop: LoopWatch
    vitals: VitalSigns
    _rest: Leftover

    async def play(self) -> list[RolloutGroup]:
        """Does the run's job, from where it stands; the groups that ran, once they have all ended."""
        for stored in self._rest.undelivered:
            await self.manager.hand_on_stored(stored)
        for group in self._rest.running:
            await self.manager.go_on(group)
        course = Course(self.job, self._rest.seed, self._rest.started, self._rest.dropped) if self.job else None
        requests = course.first() if course else ()
        groups = list(self._rest.running)
        for request in requests:
            groups += await self._started(request)
        for group in groups:  # which grows by the spares
            await group.handed_on.wait()
            spare = course.spare(group.request.rollout.environment.id) if course and group.dropped else None
            if spare:
                groups += await self._started(spare)
        return groups

    async def _started(self, request: GroupRequest) -> list[RolloutGroup]:
        """The group; none once an operator has the run drained: what is left of its job stays for a resume."""
        try:
            return [await self.manager.start(request)]
        except UsageError:
            if self.manager.draining:
                return []
            raise


@asynccontextmanager
async def open_run(
    settings: Settings,
    job: Job | None,
    backend: SandboxBackend | None,
    *,
    endpoints: Endpoints | None = None,
) -> AsyncIterator[Run]:
    """A run, ready to play its job. Leaving it waits for its groups and, with a feed, for their consumers; leaving it
    by an exception or a cancellation ends them: all is recorded, every lease is returned.

    Raises:
        UsageError: what the settings or the job ask for can't be had; nothing was started.
    """
    await _check(settings, job, endpoints)
    async with AsyncExitStack() as stack:
        stack.enter_context(bare_usage_errors())
        store = await open_traces(settings.database, existing=settings.resume, payloads=settings.payloads)
        stack.push_async_callback(close, store)
        rest = await _locked(stack, settings, job, store, isolates=backend is not None)
        recorder = await stack.enter_async_context(open_recorder(store))
        if settings.tracing:
            stack.enter_context(traced(recorder))
        watch = await stack.enter_async_context(watch_loop())
        job = job or recorded_job(rest)
        told = settings.platform(rest.started_at, job, sandboxes=backend is not None)
        files = beside(settings.database, ".files") / rest.run_id
        told = replace(told, snapshots=str(stack.enter_context(folder_of_run(files))))
        make_iteration = partial(_iteration, settings)
        place = await stack.enter_async_context(
            open_processes(bounds, settings.ray, told, recorder, make_iteration)
            if (bounds := settings.worker_bounds)
            else open_here(told, backend, recorder, make_iteration, endpoints)
        )
        await store.append(rest.opening)
        stack.enter_context(rare_collections())
        versions = Versions(rest.versions, settings.staleness, rest.accepted, place.iteration)
        queue = None
        if settings.feed:
            queue = await stack.enter_async_context(open_deliveries(recorder, versions, lease_s=settings.lease_s))
        outlet = queue or OwnConsumer(recorder)
        origin = Origin(rest.run_id, rest.seed, rest.submitted, rest.kept, tuple(rest.pending), rest.keys)
        manager = await stack.enter_async_context(
            open_manager(origin, place.workers, recorder, outlet, versions, max_groups=settings.max_groups)
        )
        guard = Guard(settings.access)
        acts = Acts(rest.run_id, partial(_record, recorder), guard)
        feed = _feed(settings, queue, manager, store, guard, acts) if queue else nullcontext("")
        address = await stack.enter_async_context(feed)
        vitals = VitalSigns(watch, recorder, place.platform, queue)
        yield Run(
            rest.run_id, job, place.model, store, recorder, manager, queue, address, guard, acts, watch, vitals, rest
        )
        await manager.finish()
        if queue:
            await queue.drained()


async def _check(settings: Settings, job: Job | None, endpoints: Endpoints | None) -> None:
    """Finds what can't be had, while nothing has started."""
    await check_names(settings, job)
    if settings.feed:
        _check_feed(settings)
    if settings.workers and endpoints:
        raise UsageError(
            f"workers is {settings.workers}, but the gateway serves rollouts of its own process; set it to 0"
        )


async def check_names(settings: Settings, job: Job | None) -> None:
    """Finds what a run like that names in vain.

    Raises:
        UsageError: there is no such engine, environment, agent, judge or policy, or it can't do what it is for.
    """
    for policy in settings.policy_settings.values():
        engines.get(policy.engine)
    for name in settings.caps.environments:
        environments.get(name)
    if job:
        for name in job.environments if not settings.workers else ():
            check_requirements(environments.get(name))
        await job.check(settings.policy_settings)


async def _locked(
    stack: AsyncExitStack, settings: Settings, job: Job | None, store: SqlTraceStore, *, isolates: bool
) -> Leftover:
    """The run, new or from where it stands, which no other process may have until the stack is left."""
    if settings.resume:
        await stack.enter_async_context(store.hold(RunId(settings.run_id)))
        return await earlier_run(store, RunId(settings.run_id), job, settings.conditions, isolates=isolates)
    rest = await new_run(store, settings.run_id, settings.seed, job, settings.conditions)
    await stack.enter_async_context(store.hold(rest.run_id))
    return rest


def _iteration(settings: Settings, pauses: Pauses) -> Iteration | None:
    if settings.iteration_tokens is None or settings.staleness is None:
        return None
    return Iteration(settings.iteration_tokens, settings.staleness.step_rollouts, pauses)


def _check_feed(settings: Settings) -> None:
    """Finds what keeps the feed from listening while no run exists yet."""
    host, port = split_address(settings.feed)
    check_address(host, port, settings.access)


def _feed(
    settings: Settings, queue: DeliveryQueue, manager: RolloutManager, store: BrowsableStore, guard: Guard, acts: Acts
) -> AbstractAsyncContextManager[str]:
    host, port = split_address(settings.feed)
    return serve_feed(queue, manager, host=host, port=port, guard=guard, acts=acts, blobs=store.file)


async def _record(recorder: Recorder, act: OperatorActed) -> None:
    recorder.emit(act)
    await recorder.flush()
