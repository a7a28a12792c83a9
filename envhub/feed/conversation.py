"""Conversation: what a client says to its server and hears from it, over as many connections as that takes."""

import time
from collections.abc import Callable
from hashlib import sha256 as sha256_of
from itertools import count
from typing import Any, TypeVar

import grpc

from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.connection import ANSWER_S, Broken, Connection, Dial, TooSoon
from envhub.feed.parts import Parts
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc

T = TypeVar("T")

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 5.0


class Conversation:
    """`hear` gets what the server says without being asked, `lost` is called when a connection broke."""

    def __init__(
        self, dial: Dial, reconnect_s: float, hear: Callable[[pb.ServerMessage], None], lost: Callable[[], None]
    ) -> None:
        self._dial = dial
        self._reconnect_s = reconnect_s
        self._hear = hear
        self._lost = lost
        self._ids = count(1)
        self._connection: Connection | None = None
        self._closed = False
        self.over = False  # the run is drained: a server that is gone does not come back

    def open(self) -> None:
        """
        Raises:
            FeedUnavailable: nobody answers.
            UsageError: the server refuses.
        """
        self.keep(lambda connection: None)

    def close(self) -> None:
        """Waits until the server has heard it. Idempotent."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def tell(self, message: pb.ClientMessage) -> None:
        """Says it where there is a connection, and waits for no answer. From any thread."""
        if (connection := self._connection) is not None:
            message.id = next(self._ids)
            connection.send(message)

    def ask(self, message: pb.ClientMessage, timeout_s: float = ANSWER_S) -> pb.Done | pb.Notice:
        """The answer. Asked again where the connection broke before it came."""
        return self.keep(lambda connection: self._converse(connection, message, timeout_s))

    def listen(self, connection: Connection) -> None:
        """Waits for something that the server says."""
        self._take(connection.receive(None), 0)

    def call(self, method: str, request: Any, timeout_s: float) -> Any:  # both are the method's own messages
        """What a method of Rollouts beside the stream gives; called again where the connection broke before it came."""

        def attempt(connection: Connection) -> Any:
            stub = feed_pb2_grpc.RolloutsStub(connection.channel)  # type: ignore[no-untyped-call]
            try:
                return getattr(stub, method)(request, timeout=timeout_s, metadata=self._dial.metadata)
            except grpc.RpcError as error:
                raise self._dial.failure(error) from error

        return self.keep(attempt)

    def file(self, sha256: str, timeout_s: float) -> bytes:
        """What Blobs has of that hash; asked again where the connection broke before all of it came."""

        def attempt(connection: Connection) -> bytes:
            stub = feed_pb2_grpc.BlobsStub(connection.channel)  # type: ignore[no-untyped-call]
            parts, whole = Parts(), None
            try:
                request = pb.BlobRequest(sha256=sha256)
                for part in stub.Get(request, timeout=timeout_s, metadata=self._dial.metadata):
                    whole = parts.add(part)
            except grpc.RpcError as error:
                raise self._dial.failure(error) from error
            if whole is None or sha256_of(whole).hexdigest() != sha256:
                raise Broken(f"what came of the file {sha256} is not all of it")
            return whole

        return self.keep(attempt)

    def keep(self, act: Callable[[Connection], T]) -> T:
        """What `act` gives, on a new connection whenever one breaks, until nothing worked for `reconnect_s`. What comes
        more often than the server takes it waits until it does.

        Raises:
            FeedUnavailable: the feed went away and did not come back.
            UsageError: the server refuses.
        """
        give_up_at: float | None = None
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return act(self._connection or self._connect())
            except TooSoon as error:
                if self._connection is None:
                    raise UsageError(f"the feed at {self._dial.address} refused: {error}") from error
                time.sleep(error.wait_s)
                continue
            except Broken as error:
                if self.over:
                    raise FeedUnavailable(f"the run is drained and its feed at {self._dial.address} is gone") from error
                self._disconnect()
                give_up_at = give_up_at or time.monotonic() + self._reconnect_s
                left_s = give_up_at - time.monotonic()
                if left_s <= 0:
                    raise self._unavailable(error) from error
            time.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _converse(self, connection: Connection, message: pb.ClientMessage, timeout_s: float) -> pb.Done | pb.Notice:
        message.id = next(self._ids)
        connection.send(message)
        while True:
            answer = self._take(connection.receive(timeout_s), message.id)
            if answer is not None:
                return answer

    def _take(self, message: pb.ServerMessage, awaited: int) -> pb.Done | pb.Notice | None:
        """The answer that is awaited, if this is it. An answer that nobody waits for any more is passed over."""
        kind = message.WhichOneof("kind")
        if kind not in ("done", "notice"):
            self._hear(message)
            return None
        answer: pb.Done | pb.Notice = getattr(message, kind)
        if answer.answers == awaited and awaited:
            return answer
        if kind == "notice" and not answer.answers:
            self._hear(message)
        return None

    def _connect(self) -> Connection:
        if self._closed:
            raise UsageError("this feed client is closed and its leases went back; settle them before it closes")
        self._connection = Connection(self._dial, min(ANSWER_S, self._reconnect_s))
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.drop()
        self._connection = None
        self._lost()

    def _unavailable(self, cause: Broken) -> FeedUnavailable:
        return FeedUnavailable(
            f"no feed answers at {self._dial.address} for {self._reconnect_s:g} s ({cause}); "
            "check the address and that the run is being served, or give a longer reconnect_s"
        )
