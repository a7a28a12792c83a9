"""The register of payloads in the database: which are there, and which run uses which.

Invariant: what a run uses is there. Who puts a payload claims it first, and commits the use of it after; who removes
one does so within a transaction of the one writer, and finds neither use nor a claim that is young. So either the claim
came first, and nothing is removed; or the removal did, and it is put after. Ages are by the database's clock: a wrong
clock on a node does no harm.
"""

from collections.abc import Collection, Mapping
from typing import cast

from sqlalchemy import Connection, CursorResult, delete, select, text, update

from envhub.contracts.ids import RunId
from envhub.errors import StoreError
from envhub.store.address import POSTGRES
from envhub.store.keys import among
from envhub.store.payloads.objects import Object
from envhub.store.tables import PayloadPlaceRow, PayloadRow, PayloadUseRow

GRACE_S = 24 * 3600.0  # from a claim to a use: far longer than a writer tries

_CLAIM = text(
    "INSERT INTO payloads (sha256, size_bytes, claimed_at, stored) VALUES (:sha256, :size_bytes, :now, false) "
    "ON CONFLICT (sha256) DO UPDATE SET claimed_at = excluded.claimed_at"
)
_USE = text("INSERT INTO payload_uses (run_id, sha256) VALUES (:run_id, :sha256) ON CONFLICT DO NOTHING")
_POSTGRES_CLOCK = text("SELECT extract(epoch FROM clock_timestamp())")
_SQLITE_CLOCK = text("SELECT (julianday('now') - 2440587.5) * 86400.0")
UNUSED = ~select(PayloadUseRow.sha256).where(PayloadUseRow.sha256 == PayloadRow.sha256).exists()


def claim(connection: Connection, sizes: Mapping[str, int]) -> set[str]:
    """Of payloads by hash, those that have to be put. None of them is removed for a day."""
    now = clock(connection)
    rows = [{"sha256": sha256, "size_bytes": size, "now": now} for sha256, size in sizes.items()]
    connection.execute(_CLAIM, rows)
    missing = select(PayloadRow.sha256).where(among(PayloadRow.sha256, "given"), ~PayloadRow.stored)
    return set(connection.execute(missing, {"given": list(sizes)}).scalars())


def settle(connection: Connection, hashes: Collection[str], folder: str) -> None:
    """They are there.

    Raises:
        StoreError: that folder is no longer the place of payloads, or they were claimed so long ago that they may have
            been removed.
    """
    if connection.execute(select(PayloadPlaceRow.folder)).scalar_one() != folder:
        raise StoreError(
            "the payloads of this database were moved to another place; go on with the run, which finds it"
        )
    there = update(PayloadRow).where(among(PayloadRow.sha256, "given")).values(stored=True)
    result = cast("CursorResult[tuple[()]]", connection.execute(there, {"given": list(hashes)}))
    if result.rowcount != len(hashes):
        raise StoreError("payloads were removed while they were written, for a day or longer; go on with the run")


def use(connection: Connection, uses: Collection[tuple[RunId, str]]) -> None:
    """These runs use these payloads."""
    connection.execute(_USE, [{"run_id": run_id, "sha256": sha256} for run_id, sha256 in uses])


def unused(connection: Connection, grace_s: float, limit: int) -> list[Object]:
    """Payloads that no run uses and nobody has claimed for so long."""
    old = PayloadRow.claimed_at < clock(connection) - grace_s
    query = select(PayloadRow.sha256, PayloadRow.size_bytes).where(UNUSED, old).limit(limit)
    return [Object(*row) for row in connection.execute(query)]


def doom(connection: Connection, grace_s: float, limit: int) -> list[Object]:
    """The same, that from now on count as gone, though they are still there."""
    found = unused(connection, grace_s, limit)
    gone = update(PayloadRow).where(among(PayloadRow.sha256, "given")).values(stored=False)
    connection.execute(gone, {"given": [name for name, _ in found]})
    return found


def still_doomed(connection: Connection, names: Collection[str], grace_s: float) -> list[str]:
    """Those of them that nobody has claimed since."""
    old = PayloadRow.claimed_at < clock(connection) - grace_s
    query = select(PayloadRow.sha256).where(among(PayloadRow.sha256, "given"), UNUSED, old, ~PayloadRow.stored)
    return list(connection.execute(query, {"given": list(names)}).scalars())


def forget(connection: Connection, names: Collection[str]) -> None:
    """They are gone."""
    connection.execute(delete(PayloadRow).where(among(PayloadRow.sha256, "given")), {"given": list(names)})


def known(connection: Connection, names: Collection[str]) -> set[str]:
    """Those of them that somebody has claimed at some time."""
    query = select(PayloadRow.sha256).where(among(PayloadRow.sha256, "given"))
    return set(connection.execute(query, {"given": list(names)}).scalars())


def used(connection: Connection, beginning: str) -> set[str]:
    """Those that should be at the place of payloads, whose hashes begin so."""
    column = PayloadRow.sha256
    of_shard = select(column).where(column >= beginning, column < f"{beginning}g", PayloadRow.stored, ~UNUSED)
    return set(connection.execute(of_shard).scalars())


def there(connection: Connection, names: Collection[str]) -> list[str]:
    """Those of them that are at the place of payloads."""
    query = select(PayloadRow.sha256).where(among(PayloadRow.sha256, "given"), PayloadRow.stored)
    return list(connection.execute(query, {"given": list(names)}).scalars())


def clock(connection: Connection) -> float:
    """Seconds since the epoch, as the database has them."""
    of_postgres = connection.dialect.name == POSTGRES
    return float(connection.execute(_POSTGRES_CLOCK if of_postgres else _SQLITE_CLOCK).scalar_one())
