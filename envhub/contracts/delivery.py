"""Deliveries: closed groups on their way to a trainer, and the Control that a trainer or an operator has."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

from envhub.contracts.ids import GroupId, LeaseId, PolicyId, PolicyVersion, RunId
from envhub.contracts.members import MemberCounts
from envhub.contracts.outcome import Outcome
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UsageError

UPDATE_S = 600.0  # that new weights may take


@dataclass(frozen=True, slots=True, eq=False)
class ClosedGroup:
    """A group whose members have all ended: those with a valid score, in order of their index."""

    run_id: RunId
    group_id: GroupId
    number: int
    request: GroupRequest
    members: tuple[int, ...]  # indices of `outcomes` in the group
    outcomes: tuple[Outcome, ...]
    policy_version: PolicyVersion  # the newest announced when it closed


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A group, leased to one consumer until `deadline`."""

    lease_id: LeaseId  # the fencing token: a new one each delivery
    group: ClosedGroup
    count: int  # 1 for the first delivery of this group
    deadline: float  # seconds since the epoch
    lease_s: float = 60.0  # how long a lease lasts, and an extension prolongs it


class NewsKind(StrEnum):
    """What may happen to a group without its consumer's doing."""

    EXPIRED = "expired"  # its lease ran out
    DEAD_LETTER = "dead_letter"  # it was delivered in vain too often
    STALE = "stale"  # its tokens have become too old


@dataclass(frozen=True, slots=True)
class News:
    """What happened to a group."""

    kind: NewsKind
    group_id: GroupId
    lease_id: LeaseId  # "": it was not leased


Admits: TypeAlias = Callable[[ClosedGroup], bool]
Hear: TypeAlias = Callable[[News], None]


def admit_all(group: ClosedGroup) -> bool:
    return True


class Deliveries(Protocol):
    """At-least-once delivery with stable group ids. On a lease that is gone every method raises LeaseLost."""

    async def lease(self, consumer: str, admits: Admits = admit_all) -> Delivery | None:
        """Waits for a closed group. None once the run is over and nothing is left, or nothing but what is held by
        consumers who wait like this one: then they should settle what they hold. Safe to cancel.

        A group that was given back or not settled in time goes to another consumer, if one waits or is at work. One
        that `admits` refuses stays first in line, and this consumer waits."""

    async def ack(self, lease_id: LeaseId) -> bool:
        """The group was consumed. Durable once it returns. Asked again under the same lease, it succeeds again, for
        as long as that is remembered, and returns False: the first answer may have been lost."""

    async def nack(self, lease_id: LeaseId, reason: str) -> None:
        """The consumer refuses the group: it goes to another delivery or, refused too often, is a dead letter."""

    async def give_back(self, lease_id: LeaseId) -> None:
        """The consumer is gone: the group goes to another delivery, and nothing is held against it."""

    async def extend(self, lease_id: LeaseId) -> float:
        """A heartbeat: a whole lease time from now; returns the new deadline."""

    def news(self, hear: Hear) -> AbstractContextManager[None]:
        """Within, `hear` is called at once with what happens to groups."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """How much runs at once. None: not known here, or not to be changed.

    Raises:
        UsageError: a limit below 1.
    """

    max_groups: int | None = None  # that have not ended; submitting waits
    max_running: int | None = None  # rollouts that act at once

    def __post_init__(self) -> None:
        for name in ("max_groups", "max_running"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1 (pause holds everything)")


@dataclass(frozen=True, slots=True)
class RunState:
    """A run as an operator sees it."""

    run_id: RunId
    members: MemberCounts
    versions: Mapping[PolicyId, PolicyVersion]
    limits: RunLimits = RunLimits()
    draining: bool = False  # it takes no more groups


class Control(Protocol):
    """What a trainer or an operator may ask of a run."""

    async def submit(self, request: GroupRequest) -> GroupId:
        """Queues a group; waits first while the run holds as many as it may. A request with a key that another one
        had gives that one's group.

        Raises:
            UsageError: it can't run, the run is draining, or the key belongs to another request.
        """

    async def cancel(self, group_id: GroupId) -> None:
        """Ends a group now; nothing of it is delivered.

        Raises:
            UsageError: it has ended, or was never submitted.
        """

    async def drain(self) -> None:
        """Takes no more groups, and returns once those that there are have ended and are handed on."""

    async def limit(self, limits: RunLimits) -> None:
        """Changes what the limits name; what runs beyond them goes on to its end.

        Raises:
            UsageError: this run can't change that limit.
        """

    async def pause(self, scope: Scope = Scope(), mode: PauseMode = PauseMode.CUT) -> None:
        """Holds rollouts before their next generation, and what generates now as the mode says; new ones wait to start.

        Raises:
            UsageError: that very scope is paused.
        """

    async def resume(self, scope: Scope = Scope(), *, pinned: bool = False) -> None:
        """Lets go what that pause holds and no other one does. Turns that were cut go on under the newest version of
        their policy or, `pinned`, under the one that they began with.

        Raises:
            UsageError: that very scope is not paused.
        """

    async def abort(self, scope: Scope) -> None:
        """Ends rollouts now: cancelled, with all that they have recorded, a turn in flight too."""

    async def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """The trainer's word that `version` is the newest: the only clock of staleness.

        Raises:
            UsageError: a version below the newest announced one.
        """

    async def update(
        self, policy_id: PolicyId, version: PolicyVersion, *, weights: str = "", deadline_s: float = UPDATE_S
    ) -> None:
        """Brings new weights into the engines of a policy, and announces them. What would be too old under them is
        cancelled; its calls are held, and what is cut goes on under the new version; the engines read `weights`, a path
        that their servers see ("": where they read theirs before); each server has to show that version, or generates
        no more.

        A version that is live is done. One that is being brought in is joined.

        Raises:
            UsageError: a version below the newest, another update of that policy, or engines that take no new weights.
            UpdateFailed: no engine has them, or not by the deadline; calls go on under the old version.
        """

    async def begin_update(self, policy_id: PolicyId, version: PolicyVersion, *, deadline_s: float = UPDATE_S) -> None:
        """The first half of an update, for a trainer that puts its weights into the engines itself: they hold still
        once it returns, and until `finish_update` or the deadline.

        Raises:
            UsageError, UpdateFailed: as update.
        """

    async def finish_update(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """The second half: each server has to show that version now. Whether or not, calls go on.

        Raises:
            UsageError: that update was not begun, or has failed since.
            UpdateFailed: as update.
        """

    async def move_server(self, server: str, policy_id: PolicyId, *, weights: str = "") -> None:
        """Has a server, by its URL, generate for another policy from now on, after it has read that one's weights
        ("": those of its last update). What runs there goes on on the servers that its old policy keeps.

        Raises:
            UsageError: no such server, no weights known, or an update is going on.
            UpdateFailed: it did not take the weights; it serves nobody until it is moved again.
        """

    async def state(self) -> RunState: ...
