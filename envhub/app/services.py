"""A live run with the servers beside it: the gateway for agents, the dashboard for people."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from envhub.app.live_run import Run, open_run
from envhub.app.settings import Settings
from envhub.contracts.events import OperatorActed
from envhub.contracts.sandbox import SandboxBackend
from envhub.dashboard.api import create_app as dashboard_app
from envhub.dashboard.decoder import Decoder
from envhub.dashboard.live_run import LiveRun
from envhub.dashboard.security import Tokens
from envhub.gateway.app import create_app as gateway_app
from envhub.gateway.sessions import Sessions
from envhub.http_server import listen
from envhub.http_server import serve as serve_http
from envhub.monitor.activity import Activity
from envhub.monitor.cpu_profile import CpuProfiler, profile_file
from envhub.monitor.metrics import Metrics
from envhub.rollouts.job import Job
from envhub.rollouts.outside import OutsideRollouts
from envhub.store.address import beside


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where gateway and dashboard listen; port 0: any that is free. Beyond loopback a token is demanded.

    Raises:
        UsageError: a token for viewers alone, or the same for both roles.
    """

    host: str = "127.0.0.1"
    dashboard: int = 0
    gateway: int = 0
    token: str = field(default="", repr=False)
    viewer_token: str = field(default="", repr=False)  # of who may look at the dashboard, not steer the run

    def __post_init__(self) -> None:
        Tokens(self.token or None, self.viewer_token or None)


@dataclass(frozen=True, slots=True)
class Services:
    """A run with its servers."""

    run: Run
    dashboard_url: str
    gateway_url: str


def _live(run: Run, settings: Settings) -> LiveRun:
    """The run as its dashboard sees it."""
    activity = Activity()
    metrics = Metrics(run.vitals.now, activity)
    run.recorder.listen(activity.take)
    run.recorder.listen(metrics.take)

    async def record(event: OperatorActed) -> None:
        run.recorder.emit(event)
        await run.recorder.flush()

    profiler = CpuProfiler(run.id, profile_file(beside(settings.database, ""), run.id))
    return LiveRun(run.id, run.manager, record, run.vitals.now, activity, metrics, profiler)


@asynccontextmanager
async def open_services(
    settings: Settings, job: Job | None, backend: SandboxBackend | None, addresses: Addresses
) -> AsyncIterator[Services]:
    """A run with gateway and dashboard beside its feed.

    Raises:
        UsageError: a port is in use, or a host that others can reach without a token.
    """
    host, token, viewer = addresses.host, addresses.token or None, addresses.viewer_token or None
    with (
        listen(host, addresses.dashboard, token=token) as page_listener,
        listen(host, addresses.gateway, token=token) as agent_listener,
    ):
        sessions = Sessions(agent_listener.url, rules=settings.call_rules)
        async with open_run(settings, job, backend, endpoints=sessions) as run:
            live = _live(run, settings)
            open_rollout = OutsideRollouts(run.manager).open
            observe = live.metrics.request
            gateway = gateway_app(sessions, control_token=token, open_rollout=open_rollout, observe=observe)
            decoder = Decoder(settings.conditions.model, run.model.tokenizer.decode) if run.model else None
            dashboard = dashboard_app(run.store, decoder, token=token, viewer_token=viewer, live=live)
            async with serve_http(gateway, agent_listener), serve_http(dashboard, page_listener):
                yield Services(run, page_listener.url, agent_listener.url)
