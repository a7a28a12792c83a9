"""Site: the dashboard over a store, served on a port of loopback by a thread of its own."""

import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio
import uvicorn
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from envhub.contracts.events import Event, OperatorActed
from envhub.contracts.ids import GroupId, RunId
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.store import BrowsableStore
from envhub.dashboard.live_run import LiveRun
from envhub.errors import UsageError
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import Metrics
from envhub.monitor.vitals import HeldLoop, LagFigures, SlotFigures, Vitals
from tests.guarding import acts_into


@dataclass(slots=True)
class Site:
    """`url` answers until the site is closed."""

    url: str
    store: BrowsableStore
    portal: BlockingPortal

    def append(self, *events: Event) -> None:
        self.portal.call(self.store.append, events)


@contextmanager
def serve(store: Callable[[], Awaitable[BrowsableStore]], app: Callable[[BrowsableStore], FastAPI]) -> Iterator[Site]:
    """`store` and `app` are called on the server's own loop."""
    with socket.create_server(("127.0.0.1", 0)) as listener, start_blocking_portal() as portal:

        async def made() -> tuple[BrowsableStore, uvicorn.Server]:
            found = await store()
            config = uvicorn.Config(app(found), log_level="error", timeout_graceful_shutdown=1)
            return found, uvicorn.Server(config)

        found, server = portal.call(made)
        running = portal.start_task_soon(server.serve, [listener])
        try:
            yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", found, portal)
        finally:
            server.should_exit = True
            running.result()
            portal.call(found.close)


@dataclass(slots=True)
class FakeControl:
    """Remembers what it was asked; refuses to resume what is not paused, as a run does."""

    acts: list[str] = field(default_factory=list)
    scope: Scope = Scope()  # of the last pause

    async def pause(self, scope: Scope = Scope(), mode: PauseMode = PauseMode.CUT) -> None:
        self.scope = scope
        self.acts.append(f"pause {mode}")

    async def resume(self, scope: Scope = Scope(), *, pinned: bool = False) -> None:
        raise UsageError("that scope is not paused; pause it first")

    async def drain(self) -> None:
        await anyio.sleep_forever()

    async def cancel(self, group_id: GroupId) -> None:
        self.acts.append(f"cancel {group_id}")

    async def abort(self, scope: Scope) -> None:
        self.acts.append(f"abort {scope.rollout_id}")

    async def limit(self, limits: object) -> None:
        self.acts.append(f"limit {limits}")


def live_run(run_id: RunId, control: FakeControl, recorded: list[OperatorActed]) -> LiveRun:
    """A run that says that it is busy."""

    def vitals() -> Vitals:
        lag = LagFigures(0.0004, 0.011, 0.084, HeldLoop(0.084, "demo/repair-v0", "repair.py:31"))
        return Vitals(lag, 311, SlotFigures(1019, 212, 1024), None, (), None)

    activity = Activity()
    return LiveRun(run_id, control, acts_into(recorded, run_id=run_id), vitals, activity, Metrics(vitals, activity))  # type: ignore[arg-type]  # only what is asked for


def serious(violations: Sequence[dict[str, object]]) -> list[str]:
    """One line a finding of axe that keeps somebody from using the page."""
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in violations
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]  # type: ignore[attr-defined]
    ]
