"""A live run with the servers beside it: the gateway for agents, the dashboard for people."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

from starlette.types import ASGIApp

from envhub.app.live_run import Run, open_run
from envhub.app.settings import Settings
from envhub.contracts.sandbox import SandboxBackend
from envhub.dashboard.api import create_app as dashboard_app
from envhub.dashboard.decoder import Decoder
from envhub.dashboard.live_run import LiveRun
from envhub.gateway.app import create_app as gateway_app
from envhub.gateway.sessions import Sessions
from envhub.http_server import Health, Listener, listen
from envhub.http_server import serve as serve_http
from envhub.monitor.activity import Activity
from envhub.monitor.cpu_profile import CpuProfiler, profile_file
from envhub.monitor.metrics import Metrics
from envhub.rollouts.job import Job
from envhub.rollouts.outside import OutsideRollouts
from envhub.store.address import beside


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where gateway and dashboard listen; port 0: any that is free. Beyond loopback tokens and TLS are demanded."""

    host: str = "127.0.0.1"
    dashboard: int = 0
    gateway: int = 0


@dataclass(frozen=True, slots=True)
class Services:
    """A run with its servers."""

    run: Run
    dashboard_url: str
    gateway_url: str  # "": none for programs outside


def _live(run: Run, settings: Settings) -> LiveRun:
    """The run as its dashboard sees it."""
    activity = Activity()
    metrics = Metrics(run.vitals.now, activity)
    run.recorder.listen(activity.take)
    run.recorder.listen(metrics.take)
    profiler = CpuProfiler(run.id, profile_file(beside(settings.database, ""), run.id))
    return LiveRun(run.id, run.manager, run.acts, run.vitals.now, activity, metrics, profiler)


@dataclass(frozen=True, slots=True)
class _Gateway:
    """Where programs call it: those outside, and those in sandboxes."""

    outside: Listener
    sandboxes: Listener
    sessions: Sessions

    def apps(self, run: Run, live: LiveRun) -> Iterator[tuple[ASGIApp, Listener]]:
        observe = live.metrics.request
        opening = OutsideRollouts(run.manager).open
        app = gateway_app(self.sessions, guard=run.guard, acts=run.acts, open_rollout=opening, observe=observe)
        yield app, self.outside
        if self.sandboxes is not self.outside:
            yield gateway_app(self.sessions, observe=observe), self.sandboxes


@asynccontextmanager
async def open_services(
    settings: Settings, job: Job | None, backend: SandboxBackend | None, addresses: Addresses
) -> AsyncIterator[Services]:
    """A run with gateway and dashboard beside its feed. A run in worker processes has no gateway for programs outside:
    each worker has one of its own, for what runs there.

    Raises:
        UsageError: a port is in use, or a host that others can reach without a token or TLS.
    """
    async with AsyncExitStack() as stack:
        page = stack.enter_context(listen(addresses.host, addresses.dashboard, access=settings.access))
        gateway = None if settings.workers else stack.enter_context(_gateway(settings, addresses))
        sessions = gateway.sessions if gateway else None
        run = await stack.enter_async_context(open_run(settings, job, backend, endpoints=sessions))
        live = _live(run, settings)
        decoder = Decoder(settings.conditions.model, run.model.tokenizer.decode) if run.model else None
        served: list[tuple[ASGIApp, Listener]] = [(dashboard_app(run.store, decoder, guard=run.guard, live=live), page)]
        if gateway:
            served += gateway.apps(run, live)
        for app, listener in served:
            await stack.enter_async_context(serve_http(Health(app, partial(_unready, run)), listener))
        yield Services(run, page.url, gateway.outside.url if gateway else "")


@contextmanager
def _gateway(settings: Settings, addresses: Addresses) -> Iterator[_Gateway]:
    with (
        listen(addresses.host, addresses.gateway, access=settings.access) as outside,
        # Programs in sandboxes know no certificate: they call on loopback, in the clear.
        listen() if outside.certificates else nullcontext(outside) as sandboxes,
    ):
        yield _Gateway(outside, sandboxes, Sessions(sandboxes.url, rules=settings.call_rules))


def _unready(run: Run) -> str:
    """Why the run takes no work."""
    return "the run is draining" if run.manager.draining else ""
