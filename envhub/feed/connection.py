"""Connection: the client's side of one stream. A broken one never comes back: the client opens another.

A thread reads, so that granted groups arrive while the trainer computes, and so that a wait can time out.
"""

from dataclasses import dataclass, field
from importlib.metadata import version
from queue import Empty, SimpleQueue
from threading import Thread

import grpc

from envhub.contracts.address import is_loopback
from envhub.errors import UsageError
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

ANSWER_S = 30.0  # a server that takes longer to answer is taken for dead

RELEASE = f"envhub/{version('envhub-rl')}"

OPTIONS = (
    ("grpc.primary_user_agent", RELEASE),  # so that a server of another one can name both
    ("grpc.use_local_subchannel_pool", 1),  # each connection dials anew, without the back-off of the one before
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 20_000),  # a server that vanished without a word is found in half a minute
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
)

RETRY_AFTER = "retry-after"  # whole seconds until a call that came too soon would be done: in its trailing metadata

# Dialling again would give the same answer.
REFUSALS = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,  # another stream has opened for this consumer
}


class Broken(Exception):
    """The connection is gone; another may work."""


class TooSoon(Exception):
    """The server takes so many calls a second; `wait_s` later it takes this one."""

    def __init__(self, message: str, wait_s: float) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Who vouches for the server, and what the client proves itself with where the server asks; all in PEM."""

    ca: bytes
    certificate: bytes | None = None  # and its chain
    private_key: bytes | None = field(default=None, repr=False)

    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.ca, self.private_key, self.certificate)


@dataclass(frozen=True, slots=True)
class Dial:
    """Where the server is and who calls it.

    Raises:
        UsageError: no consumer, or a token that would cross the network in the clear.
    """

    address: str
    consumer: str
    token: str | None = field(default=None, repr=False)
    tls: ClientTls | None = None
    rank: int = 0
    ranks: int = 0  # 0: not data parallel

    def __post_init__(self) -> None:
        if not self.consumer:
            raise UsageError("consumer is empty; name this trainer process, like trainer-0")
        if self.ranks and not 0 <= self.rank < self.ranks:
            raise UsageError(f"rank is {self.rank} of {self.ranks} ranks; ranks count from 0")
        if self.token and self.tls is None and not is_loopback(self.address.rpartition(":")[0]):
            raise UsageError(
                f"the token would cross the network to '{self.address}' in the clear; "
                "give ca, the PEM of who vouches for the server, or tunnel to its loopback address"
            )

    def channel(self) -> grpc.Channel:
        if self.tls is None:
            return grpc.insecure_channel(self.address, options=OPTIONS)
        return grpc.secure_channel(self.address, self.tls.credentials(), options=OPTIONS)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    @property
    def opening(self) -> pb.ClientMessage:
        return pb.ClientMessage(open=pb.Open(consumer=self.consumer, rank=self.rank, ranks=self.ranks))

    def failure(self, error: grpc.RpcError) -> Broken | TooSoon | UsageError:
        """What a call's error means: that its server refuses, or that another try may work."""
        if wait_s := dict(error.trailing_metadata() or ()).get(RETRY_AFTER):
            return TooSoon(str(error.details()), float(wait_s))
        if error.code() in REFUSALS:
            return UsageError(f"the feed at {self.address} refused: {error.details()}")
        return Broken(f"{error.code().name}: {error.details()}")


class Connection:
    """An open stream, and a channel for calls beside it.

    Raises:
        Broken: nobody answered within `timeout_s`.
        UsageError: the server refused: the token or the consumer is wrong.
    """

    def __init__(self, dial: Dial, timeout_s: float) -> None:
        self._dial = dial
        self._outbox: SimpleQueue[pb.ClientMessage | None] = SimpleQueue()
        self._inbox: SimpleQueue[pb.ServerMessage | grpc.RpcError | None] = SimpleQueue()  # bounded by the credit
        self.channel = dial.channel()
        stub = feed_pb2_grpc.RolloutsStub(self.channel)  # type: ignore[no-untyped-call]
        self._call = stub.Stream(iter(self._outbox.get, None), metadata=dial.metadata)
        Thread(target=self._read, name="envhub-feed", daemon=True).start()
        try:
            self.send(dial.opening)
            self.receive(timeout_s)
        except BaseException:
            self.drop()
            raise

    def send(self, message: pb.ClientMessage) -> None:
        """Queues the message; a connection that broke shows at the next receive."""
        self._outbox.put(message)

    def receive(self, timeout_s: float | None) -> pb.ServerMessage:
        """The next message; None waits for as long as the server is alive.

        Raises:
            Broken: the connection is gone, or the time is over.
            UsageError: the server refused the stream.
        """
        try:
            message = self._inbox.get(timeout=timeout_s)
        except Empty:
            raise Broken(f"no answer within {timeout_s:g} s") from None
        if isinstance(message, pb.ServerMessage):
            return message
        self._inbox.put(message)  # a break stays: the next receive meets it as well
        if message is None:
            raise Broken("the server ended the stream")
        raise self._dial.failure(message) from message

    def close(self) -> None:
        """Ends the stream and waits until the server has taken back what is unsettled."""
        self._outbox.put(None)
        try:
            while True:
                self.receive(ANSWER_S)
        except (Broken, UsageError):
            self.drop()

    def drop(self) -> None:
        """Lets go of the connection without a word. Idempotent."""
        self._outbox.put(None)
        self._call.cancel()
        self.channel.close()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._inbox.put(message)
            self._inbox.put(None)
        except grpc.RpcError as error:
            self._inbox.put(error)
