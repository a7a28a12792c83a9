"""What a PostgreSQL server says of itself and of a database, before a store is opened there."""

import time
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.engine import URL

from envhub.contracts import clocks
from envhub.errors import StoreError
from envhub.store.address import without_secrets
from envhub.store.postgres import connections

OLDEST = 130_000  # version from which a server tells whether a transaction was committed

_TABLES = {"alembic_version", "events", "rollouts"}  # by which we know a store of ours, of whatever revision
_QUESTION = text("""
SELECT CAST(current_setting('server_version_num') AS int) AS version,
       current_setting('server_encoding') AS encoding,
       current_user AS role,
       current_setting('transaction_read_only') = 'on' AS read_only,
       ARRAY(SELECT CAST(tablename AS text) FROM pg_tables WHERE schemaname = current_schema) AS tables,
       coalesce(has_schema_privilege(current_schema, 'CREATE'), false) AS may_create,
       coalesce(has_table_privilege(to_regclass('events'), 'INSERT'), false) AS may_write,
       CAST(extract(epoch FROM clock_timestamp()) AS float8) AS clock
""")


@dataclass(frozen=True, slots=True)
class Server:
    """One database as one role sees it."""

    version: int
    encoding: str
    role: str
    read_only: bool
    tables: list[str]
    may_create: bool
    may_write: bool
    clock: float  # seconds since the epoch

    def check(self, name: str, *, read_only: bool) -> None:
        """
        Raises:
            StoreError: it can't hold a store, holds something else, or may not be written to by its role, or from here.
        """
        complaint = self._unfit() or self._foreign(read_only)
        if not read_only:
            complaint = complaint or self._closed_to_writers() or self._of_another_time()
        if complaint:
            raise StoreError(f"database '{name}' {complaint}")

    def _unfit(self) -> str:
        if self.version < OLDEST:
            return f"is of PostgreSQL {self.version // 10_000}; a store needs {OLDEST // 10_000} or newer: upgrade it"
        if self.encoding != "UTF8":
            return f"is encoded as {self.encoding}; make one for traces with `createdb --encoding UTF8 -T template0`"
        return ""

    def _foreign(self, read_only: bool) -> str:
        if (self.tables or read_only) and not set(self.tables) >= _TABLES:
            return "is not a trace store; name one that envhub made, or an empty database"
        return ""

    def _closed_to_writers(self) -> str:
        if self.read_only:
            return f"lets '{self.role}' only read (a standby, or default_transaction_read_only); name the primary"
        if not (self.may_write if self.tables else self.may_create):
            wanted = "write to its tables" if self.tables else "make tables in it"
            return f"does not let '{self.role}' {wanted}; grant it, or name another role"
        return ""

    def _of_another_time(self) -> str:
        if difference := clocks.wrong(time.time(), self.clock):
            return f"is on a machine whose clock differs: this one's is {difference} it; set both right (NTP does)"
        return ""


def ask(url: URL) -> Server:
    """What it says now, to a connection of its own.

    Raises:
        StoreError: nobody answers, there is no such database, or it does not let this user in.
    """
    engine = connections.engine(url, connections=1, read_only=False)
    try:
        with connections.errors(without_secrets(url)), engine.connect() as connection:
            return Server(*connection.execute(_QUESTION).one())
    finally:
        engine.dispose()
