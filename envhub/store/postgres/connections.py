"""Connections to PostgreSQL: how they are made, and what their errors mean."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from envhub.errors import StoreError

CONNECT_TIMEOUT_S = 10
SILENCE_MS = 20_000  # of a server that owes an answer on the network: it is gone
LOCK_TIMEOUT_MS = 60_000  # how long a writer waits for another one's transaction
IDLE_TIMEOUT_MS = 60_000  # of a writer that stands still in its transaction: the server ends it
NETWORK = {
    "connect_timeout": CONNECT_TIMEOUT_S,
    "tcp_user_timeout": SILENCE_MS,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}

_LOST = ("08", "25P03", "57P01", "57P02", "57P03")  # SQLSTATEs of a connection that is gone
_MEANING = {
    "53100": "its disk is full: make room, then go on with the run (`envhub run --resume`)",
    "53200": "it is out of memory",
    "55P03": f"another writer did not end its transaction within {LOCK_TIMEOUT_MS // 1000} s",
    "42501": "its role may not do that: grant it to the role, or name another one",
}


def engine(url: URL, *, connections: int, read_only: bool) -> Engine:
    """Makes connections as they are needed. Readers see one snapshot a transaction."""
    made = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=connections,
        max_overflow=0,
        connect_args={**NETWORK, "application_name": process_name()},
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
    )

    def connected(connection: psycopg.Connection[Any], entry: ConnectionPoolEntry) -> None:
        with closed_on_failure(connection):
            connection.read_only = read_only or None
            connection.autocommit = True
            connection.execute(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_TIMEOUT_MS}")
            connection.autocommit = False

    event.listen(made, "connect", connected)
    return made


@contextmanager
def closed_on_failure(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """For a new connection, which is nobody's yet."""
    try:
        yield
    except BaseException:
        connection.close()
        raise


def process_name() -> str:
    """What this process is called among a server's connections."""
    return f"envhub, process {os.getpid()} on {socket.gethostname()}"[:63]  # as many as PostgreSQL keeps


def lost(error: BaseException) -> bool:
    """Whether it tells that the connection is gone, and nothing of what was asked."""
    cause = getattr(error, "orig", None) or error
    if not isinstance(cause, psycopg.OperationalError):
        return False
    return cause.sqlstate is None or cause.sqlstate.startswith(_LOST)


@contextmanager
def errors(name: str) -> Iterator[None]:
    """Makes StoreErrors of what the driver raises."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        cause = getattr(error, "orig", None) or error
        meaning = _MEANING.get(getattr(cause, "sqlstate", None) or "")
        said = str(cause).strip()
        raise StoreError(f"database '{name}' failed: {f'{meaning} ({said})' if meaning else said}") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise StoreError(f"an event can't be stored in '{name}': {error}") from error
