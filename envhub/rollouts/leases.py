"""Leases: which groups are out, with whom, and until when.

Invariants: each delivery of a group has a lease id of its own, also after a process whose last leases no log has; a
lease that has run out is nobody's any more, taken back or not. They run by a timer that never jumps; only the deadline
that consumers see is of the calendar.
"""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.ids import LeaseId
from envhub.errors import LeaseLost

SHUTDOWN, RESTART, DISCONNECTED = "shutdown", "restart", "disconnected"
FAULTLESS = frozenset({SHUTDOWN, RESTART, DISCONNECTED})  # reasons of a GroupReturned whose delivery did not fail
NO_LEASE = LeaseId("")


@dataclass(frozen=True, slots=True)
class Leased:
    """A group that is out."""

    delivery: Delivery
    consumer: str
    failed: int  # earlier deliveries of the group
    ends_at: float  # on the timer

    @property
    def group(self) -> ClosedGroup:
        return self.delivery.group


class Leases:
    """Those that are out."""

    def __init__(
        self, lease_s: float, clock: Callable[[], float] = time.time, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._lease_s = lease_s
        self._clock = clock
        self._timer = timer
        self._process = secrets.token_hex(4)
        self._out: dict[LeaseId, Leased] = {}

    def __len__(self) -> int:
        return len(self._out)

    @property
    def consumers(self) -> set[str]:
        """Who holds some."""
        return {leased.consumer for leased in self._out.values()}

    def give(self, group: ClosedGroup, consumer: str, count: int, failed: int) -> Delivery:
        """The `count`-th delivery of the group."""
        lease_id = LeaseId(f"{group.group_id}@{count}-{self._process}")
        delivery = Delivery(lease_id, group, count, self._clock() + self._lease_s, self._lease_s)
        self._out[lease_id] = Leased(delivery, consumer, failed, self._timer() + self._lease_s)
        return delivery

    def take_back(self, lease_id: LeaseId) -> Leased:
        """
        Raises:
            LeaseLost: it has run out, or was taken back before.
        """
        leased = self._live(lease_id)
        del self._out[lease_id]
        return leased

    def take_back_all(self) -> list[Leased]:
        """Whether or not they have run out."""
        taken = list(self._out.values())
        self._out.clear()
        return taken

    def take_back_over(self) -> list[Leased]:
        """Those that have run out by now."""
        now = self._timer()
        over = [leased for leased in self._out.values() if leased.ends_at <= now]
        for leased in over:
            del self._out[leased.delivery.lease_id]
        return over

    def extend(self, lease_id: LeaseId) -> float:
        """A whole lease time from now; the new deadline.

        Raises:
            LeaseLost: as take_back.
        """
        leased = self._live(lease_id)
        delivery = replace(leased.delivery, deadline=self._clock() + self._lease_s)
        self._out[lease_id] = replace(leased, delivery=delivery, ends_at=self._timer() + self._lease_s)
        return delivery.deadline

    def next_over_s(self) -> float:
        """How long until the first one runs out; infinite where none is out."""
        ends = min((leased.ends_at for leased in self._out.values()), default=float("inf"))
        return max(0.01, ends - self._timer())

    def _live(self, lease_id: LeaseId) -> Leased:
        leased = self._out.get(lease_id)
        if leased is None or leased.ends_at <= self._timer():
            raise LeaseLost(f"lease '{lease_id}' has expired or was returned; the group goes to another delivery")
        return leased
