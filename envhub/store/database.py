"""The database under a trace store: transactions that run whole in threads, one that writes at a time.

The loop hears of a transaction's end, not of each of its statements.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from sqlalchemy import Connection, Engine

from envhub.contracts.ids import RunId
from envhub.errors import StoreError

READERS = 3  # a connection and a thread each; who reads more waits in line

T = TypeVar("T")


class Database(ABC):
    """Transactions on one database. What differs between SQLite and PostgreSQL is its subclasses'."""

    search_index: Path | None = None  # where text search keeps what it has read; None: nowhere for long

    def __init__(self, name: str, reading: Engine, writing: Engine | None) -> None:
        self.name = name  # for people: without a password
        self._reading, self._writing = reading, writing
        self._readers = CapacityLimiter(READERS)  # the writer has a thread of its own: who looks must not stall a run
        self._writer = CapacityLimiter(1)
        self._closed = False

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` makes of one snapshot of the database, in a thread.

        Raises:
            StoreError: the store is closed, or the database failed.
        """
        return await self._run(partial(self._read, self._reading, work), self._readers)

    async def write(self, work: Callable[[Connection], T], undone: Callable[[], None] = lambda: None) -> T:
        """What `work` returns, in a thread, once all it wrote is committed. Where it is not, nothing is, and `undone`
        is called there, before `work` is tried again or the error is raised.

        Raises:
            StoreError: the store is closed or read-only, or the database failed.
        """
        if self._writing is None:
            raise StoreError(f"store '{self.name}' was opened read-only; open it for writing to append")
        return await self._run(partial(self._write, self._writing, work, undone), self._writer)

    async def close(self) -> None:
        """Waits for the transactions that are going on. Idempotent."""
        async with AsyncExitStack() as stack:
            for limiter in (self._writer, *[self._readers] * READERS):
                place = object()
                await limiter.acquire_on_behalf_of(place)
                stack.callback(limiter.release_on_behalf_of, place)
            self._closed = True
            for engine in filter(None, (self._reading, self._writing)):
                engine.dispose()

    @abstractmethod
    def hold(self, run_id: RunId) -> AbstractAsyncContextManager[None]:
        """The run within, which no other process may hold.

        Raises:
            UsageError: another one holds it.
        """

    @abstractmethod
    def errors(self) -> AbstractContextManager[None]:
        """Makes StoreErrors of what the database raises."""

    def _read(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        with engine.begin() as connection:
            return work(connection)

    def _write(self, engine: Engine, work: Callable[[Connection], T], undone: Callable[[], None]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except BaseException:
            undone()
            raise

    async def _run(self, transaction: Callable[[], T], limiter: CapacityLimiter) -> T:
        # Who is cancelled waits for the end: a transaction is done or not, and none takes long.
        with self.errors():
            return await to_thread.run_sync(self._unless_closed, transaction, limiter=limiter)

    def _unless_closed(self, transaction: Callable[[], T]) -> T:
        if self._closed:
            raise StoreError(f"store '{self.name}' is closed; open it again")
        return transaction()
