"""Allowance: what a stream's Credits still let the server send."""

from dataclasses import dataclass

from envhub.contracts.delivery import ClosedGroup
from envhub.errors import UsageError
from envhub.feed.v1 import feed_pb2 as pb

MAX_CREDIT = 1024  # groups one Credit may grant
ENVELOPE_BYTES = 256  # more than what a Delivery has beside its group and its group's id


@dataclass(frozen=True, slots=True)
class Cost:
    """What one delivery takes."""

    tokens: int
    bytes: int


@dataclass(slots=True)
class Allowance:
    """Groups, and where the client counts them tokens and bytes. Never below 0."""

    groups: int = 0
    tokens: int | None = None  # None: no bound
    bytes: int | None = None

    def grant(self, credit: pb.Credit) -> None:
        """
        Raises:
            UsageError: a credit that grants nothing, or too many groups.
        """
        counted = credit.HasField("tokens") or credit.HasField("bytes")
        if not (0 if counted else 1) <= credit.groups <= MAX_CREDIT:
            raise UsageError(f"a Credit grants {credit.groups} groups; it must grant 1 to {MAX_CREDIT}")
        self.groups += credit.groups
        if credit.HasField("tokens"):
            self.tokens = (self.tokens or 0) + credit.tokens
        if credit.HasField("bytes"):
            self.bytes = (self.bytes or 0) + credit.bytes

    def covers(self, cost: Cost) -> bool:
        return (self.tokens is None or cost.tokens <= self.tokens) and (self.bytes is None or cost.bytes <= self.bytes)

    def spend(self, cost: Cost) -> None:
        self.groups -= 1
        if self.tokens is not None:
            self.tokens -= cost.tokens
        if self.bytes is not None:
            self.bytes -= cost.bytes


def most_bytes(group: ClosedGroup, encoded: int) -> int:
    """At least as many as the Delivery of a group of so many bytes will have."""
    return encoded + len(group.group_id.encode()) + ENVELOPE_BYTES
