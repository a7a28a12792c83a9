"""DeliveryQueue: closed groups on their way to trainers, under leases until they are acked.

Invariants: a group is with at most one consumer at a time; each delivery has a lease id of its own, so an answer that
comes late can't touch a newer delivery; a group leaves only as acked or dropped, stale or as a dead letter; each is
durable first. A lease is not waited for: of one that its process took along there is only a group that comes again.

A delivery fails when its consumer refuses the group or lets the lease expire; too many of those make a dead letter. A
delivery that ends with its connection or with the server says nothing about the group, and does not count. After one
that failed the group goes to another consumer, if one waits or is at work.
"""

import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import anyio

from envhub.contracts.delivery import Admits, ClosedGroup, Delivery, Hear, News, NewsKind, admit_all
from envhub.contracts.events import GroupAcked, GroupDropped, GroupLeased, GroupReturned
from envhub.contracts.ids import LeaseId
from envhub.rollouts.leases import DISCONNECTED, FAULTLESS, NO_LEASE, SHUTDOWN, Leased, Leases
from envhub.rollouts.ready_line import Ready, ReadyLine
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.stored_group import StoredGroup
from envhub.rollouts.versions import Versions


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
        self._max_failed = max_failed
        self._max_ready = max_ready
        self._clock = clock
        self._line = ReadyLine()
        self._leases = Leases(lease_s, clock, timer)
        self._acked: deque[LeaseId] = deque(maxlen=max_remembered)  # the last ones: an ack may be asked again
        self._waiting: Counter[str] = Counter()  # consumers
        self._dismissed: set[str] = set()  # consumers that were told to settle what they hold
        self._hearers: list[Hear] = []
        self._closed = False
        self._changed = anyio.Event()

    async def put(self, group: ClosedGroup) -> None:
        await self._offer_with_room(Ready(group))

    async def put_stored(self, group: StoredGroup) -> None:
        await self._offer_with_room(Ready(group, group.deliveries, group.failed))

    def close(self) -> None:
        self._closed = True
        self._notify()

    @property
    def standing(self) -> QueueStanding:
        return QueueStanding(len(self._line), len(self._leases), dict(+self._waiting))

    @property
    def over(self) -> bool:
        """It is closed, and every group was acked or dropped."""
        return self._closed and not len(self._line) and not len(self._leases)

    async def drained(self) -> None:
        """Waits until it is over."""
        while not self.over:
            await self._changed.wait()

    async def lease(self, consumer: str, admits: Admits = admit_all) -> Delivery | None:
        self._waiting[consumer] += 1
        self._notify()  # whoever holds groups and waits may now be waiting for nobody but itself
        try:
            while (delivery := self._next_delivery(consumer, admits)) is None:
                if self.over:
                    return None
                if self._waits_for_waiters(consumer):
                    self._dismissed.add(consumer)
                    return None
                await self._changed.wait()
        finally:
            self._waiting[consumer] -= 1
        self._notify()
        return delivery

    async def ack(self, lease_id: LeaseId) -> bool:
        first = lease_id not in self._acked
        if first:
            group = self._take_back(lease_id).group
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
        return self._leases.extend(lease_id)

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
            with anyio.move_on_after(self._leases.next_over_s()):
                await self._changed.wait()

    async def read(self) -> None:
        """Reads groups of an earlier process as their turn comes near, until cancelled."""
        while True:
            stored = self._line.next_to_read()
            if stored is None:
                await self._changed.wait()
            else:
                ready, group = stored
                ready.group = await group.read()
                self._notify()

    def return_all(self, reason: str) -> None:
        """Returns every lease that is out."""
        for leased in self._leases.take_back_all():
            self._return(leased, reason)

    def expire_now(self) -> None:
        """Returns the leases that have run out by now."""
        for leased in self._leases.take_back_over():
            self._tell(NewsKind.EXPIRED, leased.group, leased.delivery.lease_id)
            self._return(leased, NewsKind.EXPIRED)

    def _waits_for_waiters(self, consumer: str) -> bool:
        """Nothing more will close, and all that is left is held by consumers who wait for more before they settle it:
        by this one, and by nobody who is still at work. One who holds nothing waits on, in case a group comes back.
        """
        holders = self._leases.consumers
        idle = (self._waiting[holder] or holder in self._dismissed for holder in holders)
        return self._closed and not len(self._line) and consumer in holders and all(idle)

    def _next_delivery(self, consumer: str, admits: Admits) -> Delivery | None:
        """The next group for that consumer that is still fresh, leased; those that are not are dropped."""
        while (ready := self._first_for(consumer)) is not None and isinstance(ready.group, ClosedGroup):
            fresh = self._versions.fresh(ready.group)
            if fresh is not None and not admits(fresh):
                return None
            self._line.remove(ready)
            if fresh is not None:
                return self._deliver(ready, fresh, consumer)
            self._drop(ready.group, NewsKind.STALE)
        return None

    def _first_for(self, consumer: str) -> Ready | None:
        """The first in line, but for what failed with that consumer while another one waits or is at work."""
        first = self._line.first()
        if first is None or first.failed_with != consumer or not self._others(consumer):
            return first
        return self._line.first_not_failed_with(consumer)

    def _others(self, consumer: str) -> bool:
        holders = self._leases.consumers - self._dismissed
        return any(other != consumer for other in (*holders, *+self._waiting))

    def _deliver(self, ready: Ready, group: ClosedGroup, consumer: str) -> Delivery:
        delivery = self._leases.give(group, consumer, ready.deliveries + 1, ready.failed)
        self._dismissed.discard(consumer)  # it works again
        self._recorder.emit(
            GroupLeased(
                group.run_id,
                self._clock(),
                group.group_id,
                delivery.lease_id,
                consumer,
                delivery.count,
                delivery.deadline,
            )
        )
        return delivery

    def _take_back(self, lease_id: LeaseId) -> Leased:
        leased = self._leases.take_back(lease_id)
        self._notify()
        return leased

    def _return(self, leased: Leased, reason: str) -> None:
        delivery, group = leased.delivery, leased.group
        failure = reason not in FAULTLESS
        failed = leased.failed + failure
        now = self._clock()
        self._recorder.emit(GroupReturned(group.run_id, now, group.group_id, delivery.lease_id, str(reason)))
        if failed >= self._max_failed:
            self._drop(group, NewsKind.DEAD_LETTER)
        else:
            self._offer(Ready(group, delivery.count, failed, leased.consumer if failure else ""))

    def _drop(self, group: ClosedGroup, kind: NewsKind) -> None:
        self._recorder.emit(GroupDropped(group.run_id, self._clock(), group.group_id, str(kind)))
        self._versions.drop(group)
        self._tell(kind, group)
        self._notify()

    def _tell(self, kind: NewsKind, group: ClosedGroup, lease_id: LeaseId = NO_LEASE) -> None:
        for hear in self._hearers:
            hear(News(kind, group.group_id, lease_id))

    async def _offer_with_room(self, ready: Ready) -> None:
        while len(self._line) >= self._max_ready:
            await self._changed.wait()
        self._offer(ready)

    def _offer(self, ready: Ready) -> None:
        self._line.append(ready)
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
        tasks.start_soon(queue.read)
        try:
            yield queue
        finally:
            queue.return_all(SHUTDOWN)
        tasks.cancel_scope.cancel()
