"""Listeners: bound before they serve, so that whoever builds the app knows its URL already."""

import errno
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.types import ASGIApp

from envhub.contracts.access import Access, check_exposure
from envhub.contracts.address import is_loopback
from envhub.errors import UsageError
from envhub.http_server.certificates import Certificates
from envhub.http_server.protocol import Connection

GRACE_S = 3  # for answers under way when the server stops
KEEP_ALIVE_S = 75  # longer than clients pool an idle connection, so that they never send into one that closes
OPEN = Access()


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket; connections queue on it until an app is served."""

    socket: socket.socket
    url: str  # http://HOST:PORT, or https
    access: Access
    certificates: Certificates | None


@contextmanager
def listen(host: str = "127.0.0.1", port: int = 0, *, access: Access = OPEN) -> Iterator[Listener]:
    """A listener on a port, 0 for any free one; closed at the end.

    Raises:
        UsageError: the port is taken or not allowed, the host is not this machine's, or it can be reached from
            outside and a token or TLS is missing, or certificates that can't be used.
    """
    check_exposure("HTTP", host, access)
    certificates = Certificates(access.tls) if access.tls else None
    with _bind(host, port) as bound:
        name = f"[{host}]" if ":" in host else host
        scheme = "https" if certificates else "http"
        yield Listener(bound, f"{scheme}://{name}:{bound.getsockname()[1]}", access, certificates)


@asynccontextmanager
async def serve(app: ASGIApp, listener: Listener) -> AsyncIterator[str]:
    """Serves the app while the block runs and gives its URL; then lets answers under way end, for GRACE_S at most.

    Signals stay with the caller, and the app's lifespan events are not sent: what it needs is opened around it. What
    a proxy says of whom it speaks for is believed only where there is one, and it is at an address that uvicorn's
    FORWARDED_ALLOW_IPS names: this machine's by default.
    """
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=listener.access.proxied,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    if listener.certificates:
        config.ssl = listener.certificates.server_context()
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


class _Server(uvicorn.Server):
    """Ends only by `should_exit`, also where its task is cancelled: a server cut off would leave sockets open."""

    async def run_on(self, bound: socket.socket) -> None:
        with anyio.CancelScope(shield=True):
            await self.serve(sockets=[bound])

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
