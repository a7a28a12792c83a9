"""The feed's server: one Session a trainer, over any Deliveries and Control."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hmac import compare_digest

# gRPC's handlers around fork() break what this process forks: every third sandbox died at its start. None of these
# children speaks gRPC. It must be set before gRPC is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import anyio
import grpc

from envhub.contracts.address import is_loopback
from envhub.contracts.delivery import Control, Deliveries
from envhub.errors import UsageError
from envhub.feed.session import Session
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

LEAVE_S = 10.0  # for clients to leave by themselves, once the run is drained
STOP_S = 15.0  # for streams to finish what they are saying, when the server stops

OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 20),  # clients send ids and words only
    ("grpc.so_reuseport", 0),  # else a second server shares a port in use instead of failing
    ("grpc.keepalive_time_ms", 20_000),  # a client that vanished without a word is found in half a minute
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),  # clients ping as well
)


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What the server proves itself with: PEM of its certificate chain and private key."""

    certificate: bytes
    private_key: bytes


@asynccontextmanager
async def serve(
    deliveries: Deliveries,
    control: Control,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    tls: ServerTls | None = None,
) -> AsyncIterator[str]:
    """The bound address, `host:port`, while the feed is served; port 0 takes a free one.

    `tls` is for programs that serve a feed of their own to other machines; envhub's commands serve loopback only.

    Raises:
        UsageError: as check_address.
    """
    check_address(host, port, token, tls)
    service = RolloutsService(deliveries, control, token)
    server = grpc.aio.server(options=OPTIONS)
    feed_pb2_grpc.add_RolloutsServicer_to_server(service, server)  # type: ignore[no-untyped-call]
    address = _bind(server, host, port, tls)
    await server.start()
    try:
        yield address
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await service.close()
            finally:
                await server.stop(STOP_S)


def check_address(host: str, port: int, token: str | None, tls: ServerTls | None = None) -> None:
    """Finds what would keep a feed from being served there, and leaves the port free.

    Raises:
        UsageError: the port is taken, or the host can be reached from elsewhere and token or TLS is missing.
    """
    _check_exposure(host, token, tls)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: connections may linger on the port
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise _cannot_listen(host, port, error) from error


def _check_exposure(host: str, token: str | None, tls: ServerTls | None) -> None:
    if is_loopback(host) or (token and tls):
        return
    missing = " and ".join(name for name, given in (("a token", token), ("TLS", tls)) if not given)
    raise UsageError(
        f"feed host '{host}' can be reached from outside, which needs {missing}; "
        "give both, or bind 127.0.0.1 and tunnel to it"
    )


def _bind(server: grpc.aio.Server, host: str, port: int, tls: ServerTls | None) -> str:
    name = _in_address(host)
    try:
        if tls is None:
            bound = server.add_insecure_port(f"{name}:{port}")
        else:
            credentials = grpc.ssl_server_credentials([(tls.private_key, tls.certificate)])
            bound = server.add_secure_port(f"{name}:{port}", credentials)
    except RuntimeError as error:  # taken since it was checked
        raise _cannot_listen(host, port, error) from error
    return f"{name}:{bound}"


def _cannot_listen(host: str, port: int, error: Exception) -> UsageError:
    return UsageError(
        f"the feed cannot listen on {_in_address(host)}:{port} ({error}); choose another port, or 0 for a free one"
    )


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class RolloutsService(feed_pb2_grpc.RolloutsServicer):
    """Authenticates streams and runs a session for each."""

    def __init__(self, deliveries: Deliveries, control: Control, token: str | None) -> None:
        self._deliveries = deliveries
        self._control = control
        self._authorization = f"Bearer {token}".encode() if token else None
        self._scopes: set[anyio.CancelScope] = set()  # of the streams
        self._left = anyio.Event()  # a stream ended; a new event each time
        self._stopping = False

    async def close(self) -> None:
        """Ends all streams. Where the run is drained, clients have time to hear so and to say their last."""
        try:
            if await self._drained():
                with anyio.move_on_after(LEAVE_S):
                    while self._scopes:
                        await self._left.wait()
        finally:
            self._stopping = True
            for scope in self._scopes:
                scope.cancel()

    async def Stream(self, requests: AsyncIterator[pb.ClientMessage], context: grpc.aio.ServicerContext) -> None:
        if not self._admits(context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token; send the token of this feed")
        violation = ""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            if self._stopping:
                scope.cancel()
            try:
                violation = await self._converse(requests, context)
            finally:
                self._scopes.discard(scope)
                self._left.set()
                self._left = anyio.Event()
        if scope.cancelled_caught:
            await self._dismiss(context)
        if violation:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, violation)

    async def _converse(self, requests: AsyncIterator[pb.ClientMessage], context: grpc.aio.ServicerContext) -> str:
        """Serves one stream to its end; returns the rule that its client broke, if that is why it ended."""
        first = await anext(requests, pb.ClientMessage())
        if not first.open.consumer:
            return "the first message must be an Open that names its consumer"
        return await Session(self._deliveries, self._control, first.open.consumer, requests, context).run()

    async def _dismiss(self, context: grpc.aio.ServicerContext) -> None:
        """Tells a client of a feed that stops not to wait for it, where the run is drained, or else to come back."""
        if not await self._drained():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the feed stops before the run is drained; reconnect")
        await context.write(pb.ServerMessage(end=pb.End()))

    async def _drained(self) -> bool:
        return (await self._control.state()).members.drained

    def _admits(self, context: grpc.aio.ServicerContext) -> bool:
        if self._authorization is None:
            return True
        given = dict(context.invocation_metadata()).get("authorization", "")
        return compare_digest(given.encode(), self._authorization)
