"""How large a database is, and what lies where."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, text

from envhub.store import migrations
from envhub.store.address import POSTGRES
from envhub.store.payloads.garbage import Heap
from envhub.store.payloads.place import recorded
from envhub.store.tables import EventRow, FileRow, PayloadRow, RolloutRow, RunRow

_POSTGRES_BYTES = "SELECT pg_database_size(current_database()), 0"
_SQLITE_BYTES = (
    "SELECT page_count * page_size, freelist_count * page_size "
    "FROM pragma_page_count, pragma_page_size, pragma_freelist_count"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    revision: str
    size_bytes: int
    free_bytes: int  # of them, which the next events take
    runs: int
    rollouts: int
    events: int
    files: Heap  # in the database
    place: str  # of large payloads; "": they are in the database, too
    payloads: Heap  # there


def sizes(connection: Connection) -> Sizes:
    """As they are now."""
    query = _POSTGRES_BYTES if connection.dialect.name == POSTGRES else _SQLITE_BYTES
    size, free = connection.execute(text(query)).one()
    runs, rollouts, events = (
        connection.execute(select(func.count()).select_from(row)).scalar_one() for row in (RunRow, RolloutRow, EventRow)
    )
    files = connection.execute(select(func.count(), func.coalesce(func.sum(func.length(FileRow.data)), 0))).one()
    payloads = connection.execute(select(func.count(), func.coalesce(func.sum(PayloadRow.size_bytes), 0))).one()
    place = recorded(connection)
    return Sizes(
        migrations.revision(connection),
        size,
        free,
        runs,
        rollouts,
        events,
        Heap(files[0], int(files[1])),
        f"{place.url}/{place.folder}" if place else "",
        Heap(payloads[0], int(payloads[1])),
    )
