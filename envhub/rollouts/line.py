"""Line: who waits for a slot, in the order in which they get one.

By rank; within one rank environments take turns; within one environment by submission. Nobody waits for a cap that
only others need.

Invariants: who was pushed is in the line until `next` gives it or `discard` takes it out; of two environments that both
could go, neither goes twice in one rank while the other one waits there.

A queue is what waits in one environment, in one rank, for the same caps. Each has exactly one entry in a heap: among
the ready ones or, found to need a full cap, at that cap. An entry may be too early, never too late: it is looked at
again when its turn comes. So every operation costs the logarithm of those that wait, however many a full cap holds.
"""

import heapq
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

import anyio

Rank: TypeAlias = tuple[int, ...]  # the lower the sooner
Key: TypeAlias = tuple[Rank, int, "Number"]  # rank, turn of the environment, first number: where a queue stands
Number: TypeAlias = tuple[int, ...]  # of the submission, and then of the arrival: no two are alike


@dataclass(slots=True, eq=False)
class Cap:
    """At most `limit` at once of one kind."""

    limit: int
    used: int = 0
    waiting: int = 0
    held_up: list[tuple[Key, "Queue"]] = field(default_factory=list)  # a heap; they need it and found it full

    @property
    def full(self) -> bool:
        return self.used >= self.limit


Caps: TypeAlias = tuple[Cap, ...]


@dataclass(slots=True, eq=False)
class Waiter:
    """One that waits."""

    rank: Rank
    environment: str
    number: Number
    caps: Caps
    granted: anyio.Event = field(default_factory=anyio.Event)
    gone: bool = False

    def __lt__(self, other: "Waiter") -> bool:
        return self.number < other.number


@dataclass(slots=True, eq=False)
class Turn:
    """When it is an environment's turn in one rank: the lowest first."""

    at: int
    queues: int = 0


@dataclass(slots=True, eq=False)
class Queue:
    """Waiters of one environment and rank that need the same caps."""

    rank: Rank
    environment: str
    caps: Caps
    turn: Turn
    waiters: list[Waiter] = field(default_factory=list)  # a heap
    gone: int = 0  # of them
    key: Key | None = None  # of its one entry

    def first(self) -> Key | None:
        """Where its first waiter stands; None where nobody waits any more."""
        while self.waiters and self.waiters[0].gone:
            heapq.heappop(self.waiters)
            self.gone -= 1
        return (self.rank, self.turn.at, self.waiters[0].number) if self.waiters else None

    def forget(self, waiter: Waiter) -> None:
        """Passes over it. Those passed over are at most as many as those that wait."""
        waiter.gone = True
        self.gone += 1
        if self.gone * 2 > len(self.waiters):
            self.waiters = [other for other in self.waiters if not other.gone]
            heapq.heapify(self.waiters)
            self.gone = 0


class Line:
    """All that wait."""

    def __init__(self) -> None:
        self._queues: dict[tuple[Rank, str, Caps], Queue] = {}
        self._turns: dict[tuple[Rank, str], Turn] = {}
        self._ready: list[tuple[Key, Queue]] = []
        self._freed: dict[Cap, None] = {}  # caps with room again, and queues that found them full
        self._turn_numbers = count()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def push(self, waiter: Waiter) -> None:
        queue = self._queues.get((waiter.rank, waiter.environment, waiter.caps)) or self._open(waiter)
        heapq.heappush(queue.waiters, waiter)
        self._count(waiter, 1)
        first = queue.first()
        assert first is not None
        if queue.key is None or first < queue.key:
            self._enter(queue, first)

    def discard(self, waiter: Waiter) -> None:
        """Takes out one that does not wait any more."""
        self._queues[waiter.rank, waiter.environment, waiter.caps].forget(waiter)
        self._count(waiter, -1)

    def freed(self, caps: Caps) -> None:
        """To be called when those caps have room again."""
        for cap in caps:
            if cap.held_up:
                self._freed[cap] = None

    def next(self) -> Waiter | None:
        """Whose turn it is, of those whose caps all have room. It is out of the line then."""
        while (source := self._soonest()) is not None:
            key, queue = heapq.heappop(source)
            if queue.key is not key:  # it has another entry by now
                continue
            first = queue.first()
            if first is None:
                self._close(queue)
            elif first != key:
                self._enter(queue, first)
            elif full := next((cap for cap in queue.caps if cap.full), None):
                heapq.heappush(full.held_up, (key, queue))
            else:
                return self._take(queue)
        return None

    def _soonest(self) -> list[tuple[Key, Queue]] | None:
        """The heap whose first entry comes before all others, of those that may have one that can go."""
        for cap in [cap for cap in self._freed if cap.full or not cap.held_up]:
            del self._freed[cap]
        heaps = [heap for heap in (self._ready, *(cap.held_up for cap in self._freed)) if heap]
        return min(heaps, key=lambda heap: heap[0][0], default=None)

    def _take(self, queue: Queue) -> Waiter:
        waiter = heapq.heappop(queue.waiters)
        self._count(waiter, -1)
        queue.turn.at = next(self._turn_numbers)
        first = queue.first()
        if first is None:
            self._close(queue)
        else:
            self._enter(queue, first)
        return waiter

    def _count(self, waiter: Waiter, more: int) -> None:
        self._waiting += more
        for cap in waiter.caps:
            cap.waiting += more

    def _enter(self, queue: Queue, key: Key) -> None:
        queue.key = key
        heapq.heappush(self._ready, (key, queue))

    def _open(self, waiter: Waiter) -> Queue:
        rank, environment, caps = waiter.rank, waiter.environment, waiter.caps
        turn = self._turns.get((rank, environment))
        if turn is None:
            turn = self._turns[rank, environment] = Turn(next(self._turn_numbers))
        turn.queues += 1
        queue = self._queues[rank, environment, caps] = Queue(rank, environment, caps, turn)
        return queue

    def _close(self, queue: Queue) -> None:
        queue.key = None
        del self._queues[queue.rank, queue.environment, queue.caps]
        queue.turn.queues -= 1
        if not queue.turn.queues:
            del self._turns[queue.rank, queue.environment]
