"""Groups: the members of one task side by side."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupCancelled,
    GroupDropped,
    GroupLeased,
    GroupReturned,
    GroupSubmitted,
)
from envhub.contracts.ids import LeaseId, RolloutId
from envhub.contracts.members import MemberState
from envhub.contracts.messages import Message
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.score import Score
from envhub.contracts.store import GroupSummary, RolloutSummary
from envhub.dashboard.records import TranscriptEntry


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """One group with the rewards of its members, in order."""

    group: GroupSummary
    rewards: list[float | None]  # of each member's last try; None: it has none
    mean: float | None
    std: float | None  # over the members that have one, with N below


@dataclass(frozen=True, slots=True)
class MemberRecord:
    """One member, by its last try."""

    member: int
    state: MemberState
    rollout: RolloutSummary | None  # None: it was not started yet
    tries: list[RolloutId]
    score: Score | None
    advantage: float | None  # reward minus the mean of the group's; None without a valid score
    response: str
    transcript: list[TranscriptEntry]
    diverges_at: int  # the first message that is not the same in all members


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """One lease of the group."""

    lease_id: LeaseId
    consumer: str
    at: float
    deadline: float
    ended_at: float | None  # None: it is leased now
    ended: str  # acked, or why it was returned; "": it is leased now


@dataclass(frozen=True, slots=True)
class GroupDetail:
    """Everything of one group."""

    group: GroupRecord
    request: GroupRequest | None
    members: list[MemberRecord]
    deliveries: list[DeliveryRecord]
    dropped: str  # why; "": it was not


@dataclass(frozen=True, slots=True)
class GroupList:
    groups: list[GroupRecord]
    next_cursor: str  # "": the last page
    total: int


@dataclass(slots=True)
class GroupStory:
    """What the events of a group itself tell."""

    request: GroupRequest | None = None
    dropped: str = ""
    deliveries: list[DeliveryRecord] | None = None

    @classmethod
    def of(cls, events: Sequence[Event]) -> "GroupStory":
        story = cls(deliveries=[])
        for event in events:
            story._take(event)
        return story

    def _take(self, event: Event) -> None:
        match event:
            case GroupSubmitted():
                self.request = event.request
            case GroupLeased():
                lease = DeliveryRecord(event.lease_id, event.consumer, event.at, event.deadline, None, "")
                self.deliveries = [*(self.deliveries or ()), lease]
            case GroupReturned():
                self._end(event.lease_id, event.at, event.reason)
            case GroupAcked() if event.lease_id:
                self._end(event.lease_id, event.at, "acked")
            case GroupDropped():
                self.dropped = event.reason
            case GroupCancelled():
                self.dropped = "cancelled"

    def _end(self, lease_id: LeaseId, at: float, how: str) -> None:
        self.deliveries = [
            DeliveryRecord(one.lease_id, one.consumer, one.at, one.deadline, at, how)
            if one.lease_id == lease_id
            else one
            for one in self.deliveries or ()
        ]


def group_record(group: GroupSummary, tries: Sequence[RolloutSummary]) -> GroupRecord:
    """`tries` are those of its members, in the order in which they started."""
    last = {one.member: one for one in tries if one.is_try}
    rewards = [last[member].reward if member in last else None for member in range(len(group.members))]
    scored = [reward for reward in rewards if reward is not None]
    return GroupRecord(
        group=group,
        rewards=rewards,
        mean=statistics.fmean(scored) if scored else None,
        std=statistics.pstdev(scored) if scored else None,
    )


def diverging(transcripts: Sequence[Sequence[TranscriptEntry]]) -> int:
    """The first message at which they are not all the same."""
    told = [[_key(entry.message) for entry in transcript] for transcript in transcripts if transcript]
    if len(told) < 2:
        return 0
    same = 0
    for messages in zip(*told, strict=False):
        if len(set(messages)) > 1:
            break
        same += 1
    return same


def _key(message: Message) -> tuple[str, str, str]:
    return message.role, message.content, repr(message.tool_calls)
