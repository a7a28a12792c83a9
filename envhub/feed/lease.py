"""GroupLease: the right to one delivered group."""

from dataclasses import dataclass
from typing import Protocol

from envhub.contracts.ids import GroupId, LeaseId
from envhub.feed.codec import TrainerGroup, read_group
from envhub.feed.v1 import feed_pb2 as pb


@dataclass(frozen=True, slots=True, eq=False)
class Arrived:
    """A delivery, and what it takes of the credit."""

    group: TrainerGroup
    lease_id: LeaseId
    deadline: float  # seconds since the epoch
    count: int  # 1 for the first delivery of this group
    lease_s: float
    tokens: int
    bytes: int

    @classmethod
    def of(cls, delivery: pb.Delivery, size: int) -> "Arrived":
        group = read_group(delivery.group)
        tokens = sum(len(row.row.ids) for member in group.members for row in member.rows)
        lease_id = LeaseId(delivery.lease_id)
        return cls(group, lease_id, delivery.deadline, delivery.count, delivery.lease_s, tokens, size)


class Holder(Protocol):
    """The client that a lease belongs to."""

    def settle(self, lease: "GroupLease", message: pb.ClientMessage) -> bool:
        """Whether the lease was still ours."""

    def consume(self, lease: "GroupLease") -> None:
        """Its group is in the weights."""

    def put_by(self, lease: "GroupLease") -> None:
        """It is acked with the next checkpoint."""

    def prolong(self, lease_id: LeaseId) -> float:
        """The new deadline."""


class GroupLease:
    """The right to one group until `deadline`. Settle it once, by ack, nack or trained; unsettled, it goes back."""

    def __init__(self, holder: Holder, arrived: Arrived) -> None:
        self._holder = holder
        self.group = arrived.group
        self.renew(arrived)

    def renew(self, arrived: Arrived) -> None:
        """Takes over the lease of another delivery of the same group."""
        self.lease_id = arrived.lease_id
        self.deadline = arrived.deadline  # seconds since the epoch
        self.count = arrived.count  # 1 for the first delivery of this group

    @property
    def group_id(self) -> GroupId:
        return self.group.group_id

    def ack(self) -> bool:
        """Says that the group was trained on. True once that is durable, also where the answer was lost and it had to
        be asked again. False: the lease was lost before, and the group comes again: here it is then acked unseen,
        elsewhere it would be trained on a second time. A server that restarted between ack and answer says False as
        well, but brings the group no more."""
        self._holder.consume(self)
        return self._holder.settle(self, pb.ClientMessage(ack=pb.Ack(lease_id=self.lease_id)))

    def trained(self) -> None:
        """Notes that the group is in the weights, and keeps its lease: `FeedClient.ack_trained` acks it once a
        checkpoint holds the weights and the cursor. It takes no credit any more."""
        self._holder.consume(self)
        self._holder.put_by(self)

    def nack(self, reason: str) -> None:
        """Gives the group back for another delivery. A lease that was lost has gone back already."""
        self._holder.settle(self, pb.ClientMessage(nack=pb.Nack(lease_id=self.lease_id, reason=reason)))

    def extend(self) -> float:
        """The new deadline: a whole lease time from now, seconds since the epoch.

        Raises:
            LeaseLost: the group is or will be somebody else's.
        """
        self.deadline = self._holder.prolong(self.lease_id)
        return self.deadline
