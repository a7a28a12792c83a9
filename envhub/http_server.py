"""An HTTP listener inside a running loop: what the gateway and the dashboard are served by.

Binding comes before serving, so that whoever builds the app knows its URL already. Of requests served here an app may
ask to be told when their client hangs up (HANG_UP): to wait for that in a task of its own costs as much as the rest of
the HTTP does.
"""

import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from envhub.contracts.address import is_loopback
from envhub.errors import UsageError

__all__ = ["HANG_UP", "Listener", "OnHangUp", "is_loopback", "listen", "names_loopback", "serve"]

HANG_UP = "envhub.hang_up"  # the name of an ASGI extension, an OnHangUp of the request
OnHangUp: TypeAlias = Callable[[Callable[[], None] | None], None]  # takes what is called then; None: nothing any more

GRACE_S = 3  # for answers under way when the server stops
KEEP_ALIVE_S = 75  # longer than clients pool an idle connection, so that they never send into one that closes


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket; connections queue on it until an app is served."""

    socket: socket.socket
    url: str  # http://HOST:PORT


@contextmanager
def listen(host: str = "127.0.0.1", port: int = 0, *, token: str | None = None) -> Iterator[Listener]:
    """A listener on a port, 0 for any free one; closed at the end.

    Raises:
        UsageError: the port is taken or not allowed, the host is not this machine's, or it can be reached from
            outside and no token guards it.
    """
    if not token and not is_loopback(host):
        raise UsageError(f"host '{host}' can be reached from outside, which needs a token; set one, or use 127.0.0.1")
    with _bind(host, port) as bound:
        name = f"[{host}]" if ":" in host else host
        yield Listener(bound, f"http://{name}:{bound.getsockname()[1]}")


@asynccontextmanager
async def serve(app: ASGIApp, listener: Listener) -> AsyncIterator[str]:
    """Serves the app while the block runs and gives its URL; then lets answers under way end, for GRACE_S at most.

    Signals stay with the caller, and the app's lifespan events are not sent: what it needs is opened around it.
    """
    config = uvicorn.Config(
        app,
        http=_Http,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_on, listener.socket)
        try:
            yield listener.url
        finally:
            server.should_exit = True


def names_loopback(host: str) -> bool:
    """Whether a Host header, HOST or HOST:PORT, names loopback: any other name may be one that somebody made resolve
    here, so that a web page of theirs reaches this machine from the browser on it."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:  # brackets around what is no address
        return False


def _bind(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise UsageError(f"port {port} of {host} does not exist; choose one up to 65535, or 0 for any that is free")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            rule = f"port {port} of {host} is in use; choose another one, or 0 for any that is free"
        else:
            rule = f"can't listen on port {port} of {host} ({error}); choose another host or port"
        raise UsageError(rule) from error


class _Http(HttpToolsProtocol):
    """One connection. It serves one request at a time."""

    _on_hang_up: Callable[[], None] | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {HANG_UP: self._tell}  # type: ignore[dict-item]  # of ours

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._on_hang_up is not None:
            self._on_hang_up()

    def _tell(self, on_hang_up: Callable[[], None] | None) -> None:
        self._on_hang_up = on_hang_up
        if on_hang_up is not None and self.transport.is_closing():
            on_hang_up()


class _Server(uvicorn.Server):
    """Ends only by `should_exit`, also where its task is cancelled: a server cut off would leave sockets open."""

    async def run_on(self, bound: socket.socket) -> None:
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[bound])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
