"""The SQLite database under a trace store: its engine, its connections and what they promise.

Committed is durable against the death of the process (kill -9 too): a commit is in the write-ahead log, which the
operating system holds. `synchronous=NORMAL` does not wait for the disk, so a power cut may take the last commits, never
half of one. Readers, in this process or others, never wait for the writer.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import anyio
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from envhub.errors import StoreError, UsageError

BUSY_TIMEOUT_S = 30.0  # how long a writer waits for another process's transaction
TABLES = {"alembic_version", "events", "rollouts"}  # by which we know a store of ours, of whatever revision
CONNECTIONS = 4  # a thread each; further callers wait in line


async def open_database(path: Path, *, read_only: bool) -> "Database":
    """The database in that file, made where there is none.

    Raises:
        UsageError: the file, or the directory for it, does not exist.
        StoreError: the file can't be opened, is no database, or one of something else, which is left as it is.
    """
    # Without aiosqlite, which leaves a thread behind where a file can't be opened.
    with _errors(path):
        await anyio.to_thread.run_sync(partial(_look_at, path, read_only=read_only))
    return Database(path, read_only=read_only)


class Database:
    """Transactions on one SQLite file; one that writes at a time. Open it with `open_database`."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._engine = _engine(path, read_only=read_only)
        self._writer = anyio.Lock()
        self._readers = anyio.Semaphore(CONNECTIONS - 1)  # one is the writer's alone: who looks must not stall a run
        self._closed = False

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on one snapshot of the database.

        Raises:
            StoreError: the store is closed, or the database failed.
        """
        async with self._readers, self._transaction(self._engine) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose writes are committed at the end, or none of them.

        Raises:
            StoreError: the store is closed or read-only, or the database failed.
        """
        if self.read_only:
            raise StoreError(f"store '{self.path}' was opened read-only; open it for writing to append")
        async with self._writer, self._transaction(self._engine.execution_options(writes=True)) as connection:
            yield connection

    async def close(self) -> None:
        """Waits for the transactions that are going on. Idempotent."""
        async with self._writer, AsyncExitStack() as stack:
            self._closed = True
            for _ in range(CONNECTIONS - 1):
                await stack.enter_async_context(self._readers)
            with anyio.CancelScope(shield=True):
                await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        if self._closed:
            raise StoreError(f"store '{self.path}' is closed; open it again")
        # Shielded: a driver's call that is cancelled half-way leaves its connection unusable; none takes long.
        with anyio.CancelScope(shield=True), _errors(self.path):
            async with engine.begin() as connection:
                yield connection


def database_path(url_or_path: str) -> Path:
    """The file that a path, or a URL like sqlite:///traces.db, names.

    Raises:
        UsageError: it names no file of SQLite.
    """
    if "://" not in url_or_path:
        path = url_or_path
    else:
        url = _url(url_or_path)
        if url.get_backend_name() != "sqlite":
            raise UsageError(
                f"database '{url.render_as_string()}' is of {url.get_backend_name()}; traces go to SQLite: "
                "give a path, or sqlite:///PATH"
            )
        path = url.database or ""
    if path in ("", ":memory:"):
        raise UsageError(f"'{url_or_path}' names no file; give a path, or use MemoryTraceStore for a throw-away run")
    return Path(path)


def _url(text: str) -> URL:
    try:
        return make_url(text)
    except ArgumentError as error:
        raise UsageError(f"'{text}' is no database URL; give a path, or sqlite:///PATH") from error


def _look_at(path: Path, *, read_only: bool) -> None:
    if read_only and not path.is_file():
        raise UsageError(f"no database '{path}' to read; name one that a run wrote")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"no directory '{path.absolute().parent}' for database '{path.name}'; make it first")
    uri = f"{_uri(path)}?mode={_mode(read_only)}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (tables or read_only) and not tables >= TABLES:
        raise StoreError(f"database '{path}' is not a trace store; name one that envhub made, or a new file")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"


def _mode(read_only: bool) -> str:
    return "ro" if read_only else "rwc"


def _engine(path: Path, *, read_only: bool) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=_uri(path), query={"mode": _mode(read_only), "uri": "true"}),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},  # None: we say BEGIN ourselves
        pool_size=CONNECTIONS,
        max_overflow=0,
    )

    def connected(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        cursor = connection.cursor()
        if not read_only:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    def begin(connection: Connection) -> None:
        # A transaction that begins as a reader can't become the writer once another one wrote: take the lock at once.
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begin)
    return engine


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"database '{path}' failed: {cause}") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"an event can't be stored in '{path}': {error}") from error
