"""The runs that a process holds: advisory locks of its writing connection, which the server lets go with it."""

import time
from hashlib import sha256
from typing import Any, cast

import psycopg
from sqlalchemy import Connection
from sqlalchemy.pool import ConnectionPoolEntry

from envhub.contracts.ids import RunId
from envhub.errors import StoreError, UsageError
from envhub.store.postgres.connections import closed_on_failure

FAREWELL_S = 5.0  # of a connection of ours that the server has not missed yet
LOOK_S = 0.05

_TRY = "SELECT pg_try_advisory_lock(%s)"
_LET_GO = "SELECT pg_advisory_unlock(%s)"
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND application_name = %s"
# A lock's 64 bits are shown as two unsigned halves.
_HOLDER = """
SELECT pid, application_name, host(client_addr) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32) | objid::bigint = %s
"""


def key(name: str) -> int:
    """What an advisory lock of that name is taken by; PostgreSQL has one space of them a database."""
    return int.from_bytes(sha256(f"envhub {name}".encode("utf-8", "replace")).digest()[:8], signed=True)


class RunLocks:
    """Those of one writing connection after another. Its methods block, one at a time."""

    def __init__(self, process: str) -> None:
        self._process = process  # the name of its connections
        self._held: set[RunId] = set()
        self._backend = 0  # the process of the last connection at the server

    def take(self, connection: Connection, run_id: RunId) -> None:
        """
        Raises:
            UsageError: another one holds the run.
        """
        driver = _driver(connection)
        if not _try(driver, run_id):
            raise UsageError(f"run '{run_id}' is still running, in {_holder(driver, run_id)[1]}; end that one first")
        self._held.add(run_id)

    def let_go(self, connection: Connection, run_id: RunId) -> None:
        self._held.discard(run_id)
        _driver(connection).execute(_LET_GO, [key(f"run {run_id}")])

    def take_again(self, driver: psycopg.Connection[Any], entry: ConnectionPoolEntry) -> None:
        """Takes what the connection before held.

        Raises:
            StoreError: another process has taken a run meanwhile.
        """
        before, self._backend = self._backend, driver.info.backend_pid
        with closed_on_failure(driver):
            for run_id in sorted(self._held):
                self._take_from(driver, run_id, before)
            driver.commit()

    def _take_from(self, driver: psycopg.Connection[Any], run_id: RunId, before: int) -> None:
        until = time.monotonic() + FAREWELL_S
        while not _try(driver, run_id):
            backend, holder = _holder(driver, run_id)
            if backend == before and time.monotonic() < until:  # the server still waits for our lost connection
                driver.execute(_END, [before, self._process])
                time.sleep(LOOK_S)
            elif backend:
                raise StoreError(
                    f"run '{run_id}' was taken over by {holder} while the database was out of reach; this one ends"
                )


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def _try(driver: psycopg.Connection[Any], run_id: RunId) -> bool:
    return bool(driver.execute(_TRY, [key(f"run {run_id}")]).fetchall() == [(True,)])


def _holder(driver: psycopg.Connection[Any], run_id: RunId) -> tuple[int, str]:
    """The backend and the name of who holds the run; 0 where nobody does any more."""
    found = driver.execute(_HOLDER, [key(f"run {run_id}")]).fetchone()
    if found is None:
        return 0, "a process that has just ended"
    backend, name, host = found
    return backend, f"{name or 'a process without a name'}{f' (connected from {host})' if host else ''}"
