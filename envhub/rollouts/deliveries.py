"""Where closed groups go: to consumers under leases, or, without a feed, to the run's own caller.

Invariants: a group is with at most one consumer at a time; each delivery has a lease id of its own, so an answer that
comes late can't touch a newer delivery; a group leaves only as acked or dropped, stale or as a dead letter; each is
durable first. A lease ends by a clock that never jumps; only the deadline that consumers see is of the calendar's.

A delivery fails when its consumer refuses the group or lets the lease expire; too many of those make a dead letter. A
delivery that ends with its connection or with the server says nothing about the group, and does not count. After one
that failed the group goes to another consumer, if one waits or is at work.
"""

import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import anyio

from envhub.contracts.delivery import Admits, ClosedGroup, Delivery, Hear, News, NewsKind, admit_all
from envhub.contracts.events import GroupAcked, GroupDropped, GroupLeased, GroupReturned
from envhub.contracts.ids import LeaseId
from envhub.errors import LeaseLost
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.versions import Versions

SHUTDOWN, RESTART, DISCONNECTED = "shutdown", "restart", "disconnected"
NO_LEASE = LeaseId("")
FAULTLESS = frozenset({SHUTDOWN, RESTART, DISCONNECTED})  # reasons of a GroupReturned whose delivery did not fail


class Outlet(Protocol):
    """What the manager hands closed groups to."""

    async def put(self, group: ClosedGroup, *, deliveries: int = 0, failed: int = 0) -> None:
        """Takes a durable, closed group that was delivered `deliveries` times before, of which `failed` failed; waits
        where it is full."""

    def close(self) -> None:
        """No group comes any more."""


class OwnConsumer:
    """Without a feed the run's output is the consumer: a closed group is acked at once."""

    def __init__(self, recorder: Recorder, *, clock: Callable[[], float] = time.time) -> None:
        self._recorder = recorder
        self._clock = clock

    async def put(self, group: ClosedGroup, *, deliveries: int = 0, failed: int = 0) -> None:
        self._recorder.emit(GroupAcked(group.run_id, self._clock(), group.group_id, NO_LEASE))
        await self._recorder.flush()

    def close(self) -> None:
        """Nothing is held back."""


@dataclass(frozen=True, slots=True)
class _Ready:
    group: ClosedGroup
    deliveries: int  # so far
    failed: int  # of them
    failed_with: str = ""  # the consumer of the last one, if that failed


@dataclass(frozen=True, slots=True)
class _Leased:
    delivery: Delivery
    consumer: str
    failed: int  # earlier deliveries of the group
    ends_at: float  # on the timer


@dataclass(frozen=True, slots=True)
class QueueStanding:
    """How many groups are where, and how many deliveries each consumer waits for."""

    ready: int
    leased: int
    waiting: Mapping[str, int]


class DeliveryQueue:
    """Deliveries over closed groups, first closed first delivered. Open it with `open_deliveries`."""

    def __init__(
        self,
        recorder: Recorder,
        versions: Versions,
        *,
        lease_s: float = 60.0,
        max_failed: int = 5,
        max_ready: int = 1_000,
        max_remembered: int = 4_096,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._recorder = recorder
        self._versions = versions
        self._lease_s = lease_s
        self._max_failed = max_failed
        self._max_ready = max_ready
        self._clock = clock
        self._timer = timer
        self._ready: deque[_Ready] = deque()
        self._leased: dict[LeaseId, _Leased] = {}
        self._acked: deque[LeaseId] = deque(maxlen=max_remembered)  # the last ones: an ack may be asked again
        self._waiting: Counter[str] = Counter()  # consumers
        self._dismissed: set[str] = set()  # consumers that were told to settle what they hold
        self._hearers: list[Hear] = []
        self._closed = False
        self._changed = anyio.Event()

    async def put(self, group: ClosedGroup, *, deliveries: int = 0, failed: int = 0) -> None:
        while len(self._ready) >= self._max_ready:
            await self._changed.wait()
        self._offer(_Ready(group, deliveries, failed))

    def close(self) -> None:
        self._closed = True
        self._notify()

    @property
    def standing(self) -> QueueStanding:
        return QueueStanding(len(self._ready), len(self._leased), dict(+self._waiting))

    @property
    def over(self) -> bool:
        """It is closed, and every group was acked or dropped."""
        return self._closed and not self._ready and not self._leased

    async def drained(self) -> None:
        """Waits until it is over."""
        while not self.over:
            await self._changed.wait()

    async def lease(self, consumer: str, admits: Admits = admit_all) -> Delivery | None:
        self._waiting[consumer] += 1
        self._notify()  # whoever holds groups and waits may now be waiting for nobody but itself
        try:
            while (ready := self._next_fresh(consumer, admits)) is None:
                if self.over:
                    return None
                if self._waits_for_waiters(consumer):
                    self._dismissed.add(consumer)
                    return None
                await self._changed.wait()
        finally:
            self._waiting[consumer] -= 1
        delivery = self._deliver(ready, consumer)
        self._notify()
        with anyio.CancelScope(shield=True):  # it is leased: its consumer must come to know
            await self._recorder.flush()
        return delivery

    async def ack(self, lease_id: LeaseId) -> bool:
        first = lease_id not in self._acked
        if first:
            group = self._take_back(lease_id).delivery.group
            self._recorder.emit(GroupAcked(group.run_id, self._clock(), group.group_id, lease_id))
            self._acked.append(lease_id)
        await self._recorder.flush()
        return first

    async def nack(self, lease_id: LeaseId, reason: str) -> None:
        # The log tells by the reason alone what counts, so a consumer can't use the words of those that don't.
        self._return(self._take_back(lease_id), f"nack: {reason}" if reason in FAULTLESS else reason)
        await self._recorder.flush()

    async def give_back(self, lease_id: LeaseId) -> None:
        self._return(self._take_back(lease_id), DISCONNECTED)
        await self._recorder.flush()

    async def extend(self, lease_id: LeaseId) -> float:
        leased = self._live(lease_id)
        deadline = self._clock() + self._lease_s
        delivery = replace(leased.delivery, deadline=deadline)
        self._leased[lease_id] = replace(leased, delivery=delivery, ends_at=self._timer() + self._lease_s)
        return deadline

    @contextmanager
    def news(self, hear: Hear) -> Iterator[None]:
        self._hearers.append(hear)
        try:
            yield
        finally:
            self._hearers.remove(hear)

    async def expire(self) -> None:
        """Returns leases that ran out, until cancelled."""
        while True:
            self.expire_now()
            with anyio.move_on_after(self._until_next_deadline()):
                await self._changed.wait()

    def return_all(self, reason: str) -> None:
        """Returns every lease that is out."""
        while self._leased:
            _, leased = self._leased.popitem()
            self._return(leased, reason)

    def expire_now(self) -> None:
        """Returns the leases that have run out by now."""
        now = self._timer()
        for lease_id in [lease_id for lease_id, leased in self._leased.items() if leased.ends_at <= now]:
            leased = self._leased.pop(lease_id)
            self._tell(NewsKind.EXPIRED, leased.delivery.group, lease_id)
            self._return(leased, NewsKind.EXPIRED)

    def _until_next_deadline(self) -> float:
        ends = [leased.ends_at for leased in self._leased.values()]
        return max(0.01, min(ends) - self._timer()) if ends else float("inf")

    def _waits_for_waiters(self, consumer: str) -> bool:
        """Nothing more will close, and all that is left is held by consumers who wait for more before they settle it:
        by this one, and by nobody who is still at work. One who holds nothing waits on, in case a group comes back.
        """
        holders = {leased.consumer for leased in self._leased.values()}
        idle = (self._waiting[holder] or holder in self._dismissed for holder in holders)
        return self._closed and not self._ready and consumer in holders and all(idle)

    def _next_fresh(self, consumer: str, admits: Admits) -> _Ready | None:
        """The next group for that consumer that is still fresh, out of the line; those that are not are dropped."""
        while (ready := self._first_for(consumer)) is not None:
            fresh = self._versions.fresh(ready.group)
            if fresh is not None and not admits(fresh):
                return None
            self._ready.remove(ready)
            if fresh is not None:
                return replace(ready, group=fresh)
            self._drop(ready.group, NewsKind.STALE)
        return None

    def _first_for(self, consumer: str) -> _Ready | None:
        """The first in line, but for what failed with that consumer while another one waits or is at work."""
        if all(ready.failed_with != consumer for ready in self._ready) or not self._others(consumer):
            return self._ready[0] if self._ready else None
        return next((ready for ready in self._ready if ready.failed_with != consumer), None)

    def _others(self, consumer: str) -> bool:
        holders = {leased.consumer for leased in self._leased.values()} - self._dismissed
        return any(other != consumer for other in (*holders, *+self._waiting))

    def _deliver(self, ready: _Ready, consumer: str) -> Delivery:
        count = ready.deliveries + 1
        group = ready.group
        lease_id = LeaseId(f"{group.group_id}@{count}")
        delivery = Delivery(lease_id, group, count, self._clock() + self._lease_s, self._lease_s)
        self._leased[lease_id] = _Leased(delivery, consumer, ready.failed, self._timer() + self._lease_s)
        self._dismissed.discard(consumer)  # it works again
        self._recorder.emit(
            GroupLeased(group.run_id, self._clock(), group.group_id, lease_id, consumer, count, delivery.deadline)
        )
        return delivery

    def _live(self, lease_id: LeaseId) -> _Leased:
        leased = self._leased.get(lease_id)
        if leased is None or leased.ends_at <= self._timer():
            raise LeaseLost(f"lease '{lease_id}' has expired or was returned; the group goes to another delivery")
        return leased

    def _take_back(self, lease_id: LeaseId) -> _Leased:
        leased = self._live(lease_id)
        del self._leased[lease_id]
        self._notify()
        return leased

    def _return(self, leased: _Leased, reason: str) -> None:
        delivery, group = leased.delivery, leased.delivery.group
        failure = reason not in FAULTLESS
        failed = leased.failed + failure
        now = self._clock()
        self._recorder.emit(GroupReturned(group.run_id, now, group.group_id, delivery.lease_id, str(reason)))
        if failed >= self._max_failed:
            self._drop(group, NewsKind.DEAD_LETTER)
        else:
            self._offer(_Ready(group, delivery.count, failed, leased.consumer if failure else ""))

    def _drop(self, group: ClosedGroup, kind: NewsKind) -> None:
        self._recorder.emit(GroupDropped(group.run_id, self._clock(), group.group_id, str(kind)))
        self._versions.drop(group)
        self._tell(kind, group)
        self._notify()

    def _tell(self, kind: NewsKind, group: ClosedGroup, lease_id: LeaseId = NO_LEASE) -> None:
        for hear in self._hearers:
            hear(News(kind, group.group_id, lease_id))

    def _offer(self, ready: _Ready) -> None:
        self._ready.append(ready)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def open_deliveries(
    recorder: Recorder,
    versions: Versions,
    *,
    lease_s: float,
    clock: Callable[[], float] = time.time,
    timer: Callable[[], float] = time.monotonic,
) -> AsyncIterator[DeliveryQueue]:
    """A queue whose leases expire; on the way out, those still out are returned."""
    queue = DeliveryQueue(recorder, versions, lease_s=lease_s, clock=clock, timer=timer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.expire)
        try:
            yield queue
        finally:
            queue.return_all(SHUTDOWN)
        tasks.cancel_scope.cancel()
