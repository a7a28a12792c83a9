"""Fresh: how new what is shown has to be, so that looking never costs more than a small share of a core."""

import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

import anyio
from anyio.to_thread import run_sync

from envhub.monitor.rollout_table import RolloutTable

LOOK_S = 0.5  # between two looks into the store, at least,
SHARE = 0.008  # of a core that looking, or counting the same thing again, may take: an overview does five such things
LONGEST_S = 5.0  # that a look is put off: on a busy machine it takes long and costs little
KEPT = 256  # things that were counted

T = TypeVar("T")


class Fresh:
    """A table that is new enough, and what was counted of it, for all viewers together."""

    def __init__(self, table: RolloutTable, threads: anyio.CapacityLimiter) -> None:
        self._table = table
        self._threads = threads
        self._next_look = 0.0
        self._seen: dict[str, tuple[float, Any]] = {}  # until when it will do, value
        self._counted: dict[Hashable, tuple[int, float, Any]] = {}  # revision, when it may be counted again, value

    async def table(self) -> RolloutTable:
        """The table, at most a moment old."""
        now = anyio.current_time()
        if now >= self._next_look:
            first, self._next_look = not len(self._table), float("inf")  # others meanwhile take it as it is
            try:
                await self._table.refresh()
            finally:
                end = anyio.current_time()
                self._next_look = end + max(LOOK_S, 0.0 if first else min((end - now) / SHARE, LONGEST_S))
        elif not len(self._table):
            await self._table.refresh()  # which waits for the first look
        return self._table

    async def of(self, key: Hashable, count: Callable[[RolloutTable], T]) -> T:
        """What `count` makes of the table, in a thread. What took long is counted anew only after a while."""
        table = await self.table()
        revision, until, value = self._counted.get(key, (-1, 0.0, None))
        began = anyio.current_time()
        if revision != table.revision and began >= until:
            value, took = await run_sync(_timed, count, table, limiter=self._threads)
            self._counted.pop(key, None)
            self._counted[key] = table.revision, began + took / SHARE, value
            while len(self._counted) > KEPT:
                del self._counted[next(iter(self._counted))]
        return value  # type: ignore[no-any-return]  # under its key lies what its count made

    async def seen(self, key: str, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` sees; where that took long, for a while what it saw."""
        until, value = self._seen.get(key, (0.0, None))
        began = anyio.current_time()
        if began >= until:
            value = await look()
            end = anyio.current_time()
            self._seen[key] = end + min((end - began) / SHARE, LONGEST_S), value
        return value  # type: ignore[no-any-return]  # as above


def _timed(count: Callable[[RolloutTable], T], table: RolloutTable) -> tuple[T, float]:
    """What it makes of the table, and the CPU seconds that this took."""
    began = time.thread_time()
    return count(table), time.thread_time() - began
