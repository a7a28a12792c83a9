"""A database in an SQLite file: its connections and what they promise.

Committed is durable against the death of the process (kill -9 too): a commit is in the write-ahead log, which the
operating system holds. `synchronous=NORMAL` does not wait for the disk, so a power cut may take the last commits, never
half of one. Readers, in this process or others, never wait for the writer.
"""

import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from anyio import to_thread
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from envhub.contracts.ids import RunId
from envhub.errors import StoreError, UsageError
from envhub.store.database import READERS, Database

BUSY_TIMEOUT_S = 30.0  # how long a writer waits for another process's transaction
TABLES = {"alembic_version", "events", "rollouts"}  # by which we know a store of ours, of whatever revision
_MEANING = {
    "SQLITE_FULL": "its disk is full: make room, then go on with the run (`envhub run --resume`): ",
    "SQLITE_READONLY": "it may not be written to: change its mode, or name another file: ",
    "SQLITE_BUSY": f"another process kept it for {BUSY_TIMEOUT_S:g} s: end that one first: ",
}
WAL_PAGES = 8_192  # 32 MiB of log before it goes into the database: pages that every batch touches go once, not often


async def open_sqlite(path: Path, *, read_only: bool) -> "SqliteDatabase":
    """The database in that file, made where there is none.

    Raises:
        UsageError: the file, or the directory for it, does not exist.
        StoreError: the file can't be opened, is no database, or one of something else, which is left as it is.
    """
    with _errors(path):
        await to_thread.run_sync(partial(_look_at, path, read_only=read_only))
    return SqliteDatabase(path, read_only=read_only)


class SqliteDatabase(Database):
    """One SQLite file. Open it with `open_sqlite`."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        reading = _engine(path, "BEGIN", connections=READERS, mode="ro" if read_only else "rwc")
        # A transaction that begins as a reader can't become the writer once another one wrote: take the lock at once.
        writing = None if read_only else _engine(path, "BEGIN IMMEDIATE", connections=1)
        super().__init__(str(path), reading, writing)
        self._path = path
        self.search_index = Path(f"{path}.search")

    @asynccontextmanager
    async def hold(self, run_id: RunId) -> AsyncIterator[None]:
        with _held(Path(f"{self._path}.{run_id}.lock"), run_id):
            yield

    @contextmanager
    def errors(self) -> Iterator[None]:
        with _errors(self._path):
            yield


@contextmanager
def _held(path: Path, run_id: RunId) -> Iterator[None]:
    """The system lets the run go when the process ends, however it ends."""
    with _locked(path, run_id) as file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, run_id: RunId) -> TextIO:
    """The lock's file: who held it before may have removed the one that was opened first."""
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read()
            raise UsageError(f"run '{run_id}' is still running, in process {holder}; end that one first") from None
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _look_at(path: Path, *, read_only: bool) -> None:
    if read_only and not path.is_file():
        raise UsageError(f"no database '{path}' to read; name one that a run wrote")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"no directory '{path.absolute().parent}' for database '{path.name}'; make it first")
    uri = f"{_uri(path)}?mode={'ro' if read_only else 'rwc'}"
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if (tables or read_only) and not tables >= TABLES:
        raise StoreError(f"database '{path}' is not a trace store; name one that envhub made, or a new file")


def _uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}"


def _engine(path: Path, begin_statement: str, *, connections: int, mode: str = "rwc") -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=_uri(path), query={"mode": mode, "uri": "true"}),
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},  # None: we say BEGIN ourselves
        pool_size=connections,
        max_overflow=0,
    )

    def connected(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        if mode != "ro":
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")

    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin_statement)

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begin)
    return engine


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        cause = getattr(error, "orig", None) or error
        meaning = _MEANING.get(getattr(cause, "sqlite_errorname", ""), "")
        raise StoreError(f"database '{path}' failed: {meaning}{cause}") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"an event can't be stored in '{path}': {error}") from error
