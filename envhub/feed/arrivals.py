"""Arrivals: deliveries that have come to a client and are not its trainer's yet, and the credit that lets more come."""

import logging
from collections import deque
from collections.abc import Iterable

from envhub.errors import UsageError
from envhub.feed.lease import Arrived
from envhub.feed.parts import Parts
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.window import Granted, Window

logger = logging.getLogger(__name__)


class Arrivals:
    """Those of one connection; the next one begins anew."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """The connection is gone: what has come by it goes back."""
        self._granted = Granted()
        self._parts = Parts()
        self._ready: deque[Arrived] = deque()
        self._short: pb.Notice | None = None  # of the group that is next in line, where the credit does not cover it

    def hear(self, message: pb.ServerMessage) -> None:
        """Keeps what the server says without being asked."""
        match message.WhichOneof("kind"):
            case "delivery":
                self._arrive(message.delivery, message.delivery.ByteSize())
            case "part":
                whole = self._parts.add(message.part)
                if whole is not None:
                    self._arrive(pb.Delivery.FromString(whole), len(whole))
            case "notice" if message.notice.kind == pb.Notice.KIND_SHORT_OF_CREDIT:
                self._short = message.notice
            case "notice":
                logger.warning("%s", message.notice.message)

    def take(self) -> Arrived | None:
        """The first that has come."""
        return self._ready.popleft() if self._ready else None

    def credit(self, window: Window, held: Iterable[Arrived]) -> pb.Credit | None:
        """What is to be granted, if anything, so that a window is filled of which the trainer holds so many."""
        credit = self._granted.top_up(window, (*self._ready, *held))
        if credit is not None:
            self._short = None
        return credit

    def check_not_stuck(self, window: Window, held: int) -> None:
        """
        Raises:
            UsageError: nothing could ever come.
        """
        short = self._short
        if short is not None and not window.fits(short.tokens, short.bytes):
            raise UsageError(
                f"group '{short.group_id}' has {short.tokens} tokens in {short.bytes} bytes, more than the whole "
                "credit; ask for groups(max_tokens=..., max_bytes=...) with as many, or without"
            )
        if short is not None and held:
            raise UsageError(f"group '{short.group_id}' needs credit that is held unsettled; ack or nack a group first")
        if held >= window.groups:
            raise UsageError(
                f"all {window.groups} groups of the credit are held unsettled, so no other can arrive; "
                "ack or nack one first, or ask for groups(credit=...) with more"
            )

    def _arrive(self, delivery: pb.Delivery, size: int) -> None:
        arrived = Arrived.of(delivery, size)
        self._granted.spend(arrived)
        self._ready.append(arrived)
