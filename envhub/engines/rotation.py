"""Rotation: which of several servers a generation goes to, and the line of those that wait for one.

The server with the least to do gets it, unless the rollout, or else its group, has been on another one that has only a
little more: the beginning of its prompt is in that one's cache. Invariants: no server runs more than its places; the
line is bounded, and whoever is first in it is passed over a bounded number of times.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice

import anyio

from envhub.contracts.ids import RolloutId, group_of
from envhub.engines.replica import Replica
from envhub.errors import EngineFault

SLACK = 8  # generations more than the least busy server has, that a cached prefix is worth
LOOK = 16  # how far down the line one is looked for whose prefix the free server has
REMEMBERED = 100_000  # rollouts and groups
LONGEST_LINE = 100_000
NONE_S = 120.0  # that a generation waits while every server is out of rotation


@dataclass(slots=True, eq=False)
class _Waiter:
    keys: Sequence[str]
    replica: Replica | None = None
    granted: anyio.Event = field(default_factory=anyio.Event)


class Rotation:
    """The servers of one group."""

    def __init__(self) -> None:
        self.replicas: dict[str, Replica] = {}
        self._line: dict[_Waiter, None] = {}
        self._passed_over = 0  # how often the first in line was
        self._homes: OrderedDict[str, str] = OrderedDict()  # where a rollout or a group was last: its replica's name
        self._given = 0
        self.closed = ""  # why nothing is given any more

    @asynccontextmanager
    async def place(self, request_id: str) -> AsyncIterator[Replica]:
        """A place on a server, once there is one.

        Raises:
            EngineFault: no server has been in rotation for a while, too many wait, or it is closed.
        """
        rollout = RolloutId(request_id.partition("/")[0])
        replica = await self._take((rollout, group_of(rollout)))
        try:
            yield replica
        finally:
            replica.running -= 1
            self.grant()

    @property
    def waiting(self) -> int:
        """How many generations wait for a server."""
        return len(self._line)

    def grant(self) -> None:
        """Gives out the places that are free."""
        while self._line and (free := [replica for replica in self.replicas.values() if replica.free]):
            waiter = self._next(free)
            del self._line[waiter]
            waiter.replica = self._give(waiter.keys, free)
            waiter.granted.set()

    def close(self, reason: str) -> None:
        """Gives nothing any more; who waits hears why."""
        self.closed = reason
        for waiter in self._line:
            waiter.granted.set()

    @property
    def outages(self) -> str:
        """Why each server is out of rotation."""
        return "; ".join(f"{replica.name}: {replica.out}" for replica in self.replicas.values() if replica.out)

    async def _take(self, keys: Sequence[str]) -> Replica:
        if self.closed:
            raise EngineFault(self.closed, retryable=False)
        free = [replica for replica in self.replicas.values() if replica.free]
        if free and not self._line:
            return self._give(keys, free)
        if len(self._line) >= LONGEST_LINE:
            raise EngineFault(f"{len(self._line)} generations wait for a server already; run fewer rollouts at once")
        waiter = _Waiter(keys)
        self._line[waiter] = None
        granted = False
        try:
            replica = await self._granted(waiter)
            granted = True
            return replica
        finally:
            if not granted:
                self._withdraw(waiter)

    def _withdraw(self, waiter: _Waiter) -> None:
        """Of one that waits no more; a place that it was given just before goes to the next."""
        self._line.pop(waiter, None)
        if waiter.replica is not None:
            waiter.replica.running -= 1
            self.grant()

    async def _granted(self, waiter: _Waiter) -> Replica:
        while waiter.replica is None:
            with anyio.move_on_after(NONE_S):
                await waiter.granted.wait()
            if self.closed:
                raise EngineFault(self.closed, retryable=False)
            if waiter.replica is None and all(replica.out for replica in self.replicas.values()):
                raise EngineFault(f"no server was in rotation for {NONE_S:g} s: {self.outages}")
        return waiter.replica

    def _next(self, free: Sequence[Replica]) -> _Waiter:
        """The first in line, unless one close behind it finds its prefix on a free server."""
        names = {replica.name for replica in free}
        first = next(iter(self._line))
        if self._passed_over < LOOK:
            for waiter in islice(self._line, LOOK):
                if self._home(waiter.keys) in names:
                    self._passed_over = 0 if waiter is first else self._passed_over + 1
                    return waiter
        self._passed_over = 0
        return first

    def _give(self, keys: Sequence[str], free: Sequence[Replica]) -> Replica:
        least = min(free, key=lambda replica: (replica.running, replica.used))
        home = self.replicas.get(self._home(keys) or "")
        chosen = home if home and home.free and home.running <= least.running + SLACK else least
        self._given += 1
        chosen.running, chosen.used = chosen.running + 1, self._given
        for key in filter(None, keys):
            self._homes[key] = chosen.name
            self._homes.move_to_end(key)
        while len(self._homes) > REMEMBERED:
            self._homes.popitem(last=False)
        return chosen

    def _home(self, keys: Sequence[str]) -> str | None:
        return next((self._homes[key] for key in keys if key in self._homes), None)
