"""The feed's server: its services over any Deliveries and Control, with gRPC's own health and reflection."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# gRPC's handlers around fork() break what this process forks: every third sandbox died at its start. None of these
# children speaks gRPC. It must be set before gRPC is imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import anyio
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]
from grpc_reflection.v1alpha import reflection  # type: ignore[import-untyped]

from envhub.contracts.access import Access, check_exposure
from envhub.contracts.delivery import Control, Deliveries
from envhub.contracts.guard import Guard
from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.feed.blobs_service import BlobsService, Find, no_blobs
from envhub.feed.control_service import ControlService
from envhub.feed.gate import Gate
from envhub.feed.releases import Releases
from envhub.feed.rollouts_service import RolloutsService
from envhub.feed.v1 import feed_pb2, feed_pb2_grpc
from envhub.feed.wire import Wire
from envhub.http_server.certificates import Certificates
from envhub.monitor.acts import Acts, nowhere

STOP_S = 15.0  # for streams to finish what they are saying, when the server stops
OPEN = Access()
SERVICES = tuple(service.full_name for service in feed_pb2.DESCRIPTOR.services_by_name.values())

OPTIONS = (
    ("grpc.max_receive_message_length", 1 << 20),  # clients send ids, words and prompts only
    ("grpc.so_reuseport", 0),  # else a second server shares a port in use instead of failing
    ("grpc.keepalive_time_ms", 20_000),  # a client that vanished without a word is found in half a minute
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # clients ping as well
)


@asynccontextmanager
async def serve(
    deliveries: Deliveries,
    control: Control,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    guard: Guard | None = None,
    acts: Acts | None = None,
    blobs: Find = no_blobs,
) -> AsyncIterator[str]:
    """The bound address, `host:port`, while the feed is served; port 0 takes a free one. The `guard` says who may do
    what; without one whoever reaches the loopback address may do all. `acts` gets who steers the run.

    Raises:
        UsageError: as check_address.
    """
    guard = guard or Guard()
    acts = acts or Acts(RunId(""), nowhere, guard)
    check_address(host, port, guard.access)
    rollouts, controls = RolloutsService(deliveries, control, guard, acts), ControlService(control, acts)
    server = grpc.aio.server(options=OPTIONS, interceptors=(Gate(guard, acts), Wire(), Releases()))
    feed_pb2_grpc.add_RolloutsServicer_to_server(rollouts, server)  # type: ignore[no-untyped-call]
    feed_pb2_grpc.add_ControlServicer_to_server(controls, server)  # type: ignore[no-untyped-call]
    feed_pb2_grpc.add_BlobsServicer_to_server(BlobsService(blobs), server)  # type: ignore[no-untyped-call]
    state = await _add_health(server)
    reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, host, port, guard.access)
    await server.start()
    try:
        yield address
    finally:
        with anyio.CancelScope(shield=True):
            try:
                await state.enter_graceful_shutdown()
                controls.close()
                await rollouts.close()
            finally:
                await server.stop(STOP_S)


def check_address(host: str, port: int, access: Access = OPEN) -> None:
    """Finds what would keep a feed from being served there, and leaves the port free.

    Raises:
        UsageError: the port is taken, the certificate can't be used, or the host can be reached from elsewhere and a
            token or TLS is missing.
    """
    check_exposure("feed", host, access)
    if access.tls:
        Certificates(access.tls)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: connections may linger on the port
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise _cannot_listen(host, port, error) from error


async def _add_health(server: grpc.aio.Server) -> health.aio.HealthServicer:
    """gRPC's health service, which says of each of ours that it serves."""
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for service in ("", *SERVICES):
        await servicer.set(service, health_pb2.HealthCheckResponse.SERVING)
    return servicer


def _bind(server: grpc.aio.Server, host: str, port: int, access: Access) -> str:
    name = _in_address(host)
    try:
        if access.tls is None:
            bound = server.add_insecure_port(f"{name}:{port}")
        else:
            bound = server.add_secure_port(f"{name}:{port}", _credentials(Certificates(access.tls)))
    except RuntimeError as error:  # taken since it was checked
        raise _cannot_listen(host, port, error) from error
    return f"{name}:{bound}"


def _credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Whose every handshake shows the newest certificate, and takes clients by the newest authority."""

    def shown() -> grpc.ServerCertificateConfiguration:
        pem = certificates.pem
        return grpc.ssl_server_certificate_configuration([(pem.private_key, pem.certificate)], pem.client_ca)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        return shown() if certificates.refresh() else None

    asks = certificates.pem.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(shown(), renewed, require_client_authentication=asks)


def _cannot_listen(host: str, port: int, error: Exception) -> UsageError:
    return UsageError(
        f"the feed cannot listen on {_in_address(host)}:{port} ({error}); choose another port, or 0 for a free one"
    )


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
