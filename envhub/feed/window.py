"""Window: how much a client lets be on its way to it, or with it unsettled, and what of that it has granted so far."""

from collections.abc import Iterable
from dataclasses import dataclass

from envhub.errors import UsageError
from envhub.feed.lease import Arrived
from envhub.feed.v1 import feed_pb2 as pb

MAX_CREDIT = 1024


@dataclass(slots=True)
class Window:
    """Groups, and where they are counted tokens and bytes.

    Raises:
        UsageError: a bound that lets nothing through, or too many groups.
    """

    groups: int
    tokens: int | None = None  # None: not counted
    bytes: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.groups <= MAX_CREDIT:
            raise UsageError(f"credit is {self.groups}; it must be 1 to {MAX_CREDIT} groups")
        for name in ("tokens", "bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise UsageError(f"max_{name} is {getattr(self, name)}; it must be at least 1, or None: not counted")

    @property
    def counts(self) -> tuple[bool, bool]:
        """Whether tokens and bytes are counted."""
        return self.tokens is not None, self.bytes is not None

    def fits(self, tokens: int, bytes: int) -> bool:
        return (self.tokens is None or tokens <= self.tokens) and (self.bytes is None or bytes <= self.bytes)


class Granted:
    """What the server may still send on this connection."""

    def __init__(self) -> None:
        self._groups = self._tokens = self._bytes = 0

    def top_up(self, window: Window, here: Iterable[Arrived]) -> pb.Credit | None:
        """What to grant, so that what is on its way and what is here come to the window; None: nothing, or so little
        that it can wait for the next time."""
        arrived = list(here)
        due = window.groups - self._groups - len(arrived)
        if self._groups and due < window.groups // 2 and window.counts == (False, False):
            return None
        credit = pb.Credit(groups=max(0, due))
        if window.tokens is not None:
            credit.tokens = max(0, window.tokens - self._tokens - sum(one.tokens for one in arrived))
        if window.bytes is not None:
            credit.bytes = max(0, window.bytes - self._bytes - sum(one.bytes for one in arrived))
        if not credit.groups and not credit.tokens and not credit.bytes:
            return None
        self._groups += credit.groups
        self._tokens += credit.tokens
        self._bytes += credit.bytes
        return credit

    def spend(self, arrived: Arrived) -> None:
        self._groups -= 1
        self._tokens -= arrived.tokens
        self._bytes -= arrived.bytes
