"""A database in PostgreSQL: transactions that outlive their connection, and runs that one process holds.

Invariants: a transaction is committed once or not at all, also where the connection is lost in the middle of the
commit: the server is asked by the transaction's id what became of it. Writers, of whatever process, take turns, so
that events are in the order of their commits and a reader sees a prefix of the log. Who lost the connection under a
run that it holds writes nothing until it holds the run again.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Generic, TypeVar

import psycopg
from anyio import CancelScope, to_thread
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from envhub.contracts.ids import RunId
from envhub.store.address import without_secrets
from envhub.store.database import READERS, Database
from envhub.store.postgres import connections
from envhub.store.postgres.run_locks import RunLocks, key
from envhub.store.postgres.server import ask

PATIENCE_S = 60.0  # of a transaction whose connection was lost, until the server is back
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0  # between tries

T = TypeVar("T")

_ERRORS = (SQLAlchemyError, psycopg.Error)
_TURN = text(f"SELECT pg_current_xact_id()::text FROM pg_advisory_xact_lock({key('writers')})")
_FATE = text("SELECT pg_xact_status(CAST(:xid AS xid8))")


async def open_postgres(url: URL, *, read_only: bool) -> "PostgresDatabase":
    """The database that the URL names.

    Raises:
        StoreError: nobody answers, it lets this user not in or not write, or is no trace store.
    """
    server = await to_thread.run_sync(ask, url)
    server.check(without_secrets(url), read_only=read_only)
    return PostgresDatabase(url, read_only=read_only)


class PostgresDatabase(Database):
    """Open it with `open_postgres`."""

    def __init__(self, url: URL, *, read_only: bool, patience_s: float = PATIENCE_S) -> None:
        reading = connections.engine(url, connections=READERS, read_only=True)
        writing = None if read_only else connections.engine(url, connections=1, read_only=False)
        super().__init__(without_secrets(url), reading, writing)
        self._patience_s = patience_s
        self._runs = RunLocks(connections.process_name())
        if writing is not None:
            event.listen(writing, "connect", self._runs.take_again)

    @asynccontextmanager
    async def hold(self, run_id: RunId) -> AsyncIterator[None]:
        """The server lets the run go when this process, or its connection, is gone."""
        await self.write(partial(self._runs.take, run_id=run_id))
        try:
            yield
        finally:
            with CancelScope(shield=True):
                await self.write(partial(self._runs.let_go, run_id=run_id))

    @contextmanager
    def errors(self) -> Iterator[None]:
        with connections.errors(self.name):
            yield

    def _read(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        return self._patiently(engine, work)

    def _write(self, engine: Engine, work: Callable[[Connection], T], undone: Callable[[], None]) -> T:
        try:
            return self._patiently(engine, _Once(work, undone))
        except BaseException:
            undone()
            raise

    def _patiently(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        patience = _Patience(self._patience_s)
        while True:
            try:
                with engine.begin() as connection:
                    return work(connection)
            except _ERRORS as error:
                if not patience.bears(error):
                    raise


class _Patience:
    """With a server that may come back."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause_s = FIRST_PAUSE_S

    def bears(self, error: BaseException) -> bool:
        """Waits for a while; False where that can't help, or no longer."""
        if not connections.lost(error) or time.monotonic() > self._until:
            return False
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        return True


class _Once(Generic[T]):
    """Work that is committed once, though it may have to be tried again and again."""

    def __init__(self, work: Callable[[Connection], T], undone: Callable[[], None]) -> None:
        self._work, self._undone = work, undone
        self._began = False
        self._tried: tuple[str, T] | None = None  # the transaction that had only to be committed, and what it returns

    def __call__(self, connection: Connection) -> T:
        """Does it in the connection's transaction, unless the last one was committed after all."""
        xid = connection.execute(_TURN).scalar_one()  # by now a transaction that was lost in its commit has ended
        if self._tried is not None:
            before, result = self._tried
            if connection.execute(_FATE, {"xid": before}).scalar_one() == "committed":
                return result
        if self._began:
            self._undone()
        self._began, self._tried = True, None
        result = self._work(connection)
        self._tried = xid, result
        return result
