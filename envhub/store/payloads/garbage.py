"""Garbage: payloads that no run uses any more. They are found first, and removed when somebody says so.

Nothing is removed that a run uses, whoever writes meanwhile: see register.py.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from anyio import to_thread
from sqlalchemy import ColumnElement, Connection, delete, func, select

from envhub.store.database import Database
from envhub.store.keys import among
from envhub.store.payloads import register
from envhub.store.payloads.objects import SHARDS, Object
from envhub.store.payloads.payloads import Payloads
from envhub.store.tables import FileRow, PayloadUseRow

BATCH = 100  # removed in one transaction, for which writers wait
ALL = 1_000_000_000

_UNUSED_FILE: ColumnElement[bool] = ~select(PayloadUseRow.sha256).where(PayloadUseRow.sha256 == FileRow.sha256).exists()


@dataclass(frozen=True, slots=True)
class Heap:
    """So many things of one kind."""

    count: int = 0
    size_bytes: int = 0

    @classmethod
    def of(cls, objects: Sequence[Object]) -> "Heap":
        return cls(len(objects), sum(size for _, size in objects))

    def __add__(self, other: "Heap") -> "Heap":
        return Heap(self.count + other.count, self.size_bytes + other.size_bytes)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What is, or was, there for nothing; and what is missing."""

    files: Heap  # in the database
    payloads: Heap  # at the place of payloads,
    strays: Heap  # and what else is there: of processes that died, of a database that was brought back from a copy
    missing: tuple[str, ...]  # that runs use and are gone


async def garbage(database: Database, payloads: Payloads | None, grace_s: float = register.GRACE_S) -> Garbage:
    """What would be removed now."""
    files = Heap.of(await database.read(partial(_unused_files, limit=ALL)))
    unused = Heap.of(await database.read(partial(register.unused, grace_s=grace_s, limit=ALL)))
    if payloads is None:
        return Garbage(files, unused, Heap(), ())
    strays, missing = await _compared(database, payloads, lambda found: database.read(partial(_strays, found=found)))
    return Garbage(files, unused, strays, missing)


async def collect(database: Database, payloads: Payloads | None, grace_s: float = register.GRACE_S) -> Garbage:
    """Removes it; what was removed."""
    files = await _all(lambda: database.write(_drop_files))
    if payloads is None:
        return Garbage(files, Heap(), Heap(), ())
    unused = await _all(partial(_drop_some, database, payloads, grace_s))
    strays, missing = await _compared(
        database, payloads, lambda found: database.write(partial(_drop_strays, payloads=payloads, found=found))
    )
    return Garbage(files, unused, strays, missing)


async def _all(drop: Callable[[], Awaitable[Sequence[Object]]]) -> Heap:
    """What is dropped, some at a time, until there is no more."""
    heap = Heap()
    while dropped := await drop():
        heap += Heap.of(dropped)
    return heap


async def _drop_some(database: Database, payloads: Payloads, grace_s: float) -> Sequence[Object]:
    """In two transactions: whoever dies between them, or in the second, has left nothing that counts as there."""
    doomed = await database.write(partial(register.doom, grace_s=grace_s, limit=BATCH))
    await database.write(partial(_drop_doomed, payloads=payloads, doomed=doomed, grace_s=grace_s))
    return doomed


def _drop_doomed(connection: Connection, payloads: Payloads, doomed: Sequence[Object], grace_s: float) -> None:
    names = register.still_doomed(connection, [name for name, _ in doomed], grace_s)
    payloads.remove(names)
    register.forget(connection, names)


async def _compared(
    database: Database, payloads: Payloads, drop: Callable[[Sequence[Object]], Awaitable[Sequence[Object]]]
) -> tuple[Heap, tuple[str, ...]]:
    """The strays, which are given to `drop`, and what is missing."""
    strays, missing = Heap(), list[str]()
    for shard in SHARDS:
        used = await database.read(partial(register.used, beginning=shard))  # first: what comes later is no stray
        found = await to_thread.run_sync(payloads.shard, shard)
        missing += sorted(used - {name for name, _ in found})
        for at in range(0, len(found), BATCH):
            strays += Heap.of(await drop(found[at : at + BATCH]))
    return strays, tuple(missing)


def _strays(connection: Connection, found: Sequence[Object]) -> Sequence[Object]:
    known = register.known(connection, [name for name, _ in found])
    return [each for each in found if each.name not in known]


def _drop_strays(connection: Connection, payloads: Payloads, found: Sequence[Object]) -> Sequence[Object]:
    strays = _strays(connection, found)
    payloads.remove([name for name, _ in strays])
    return strays


def _unused_files(connection: Connection, limit: int) -> Sequence[Object]:
    query = select(FileRow.sha256, func.length(FileRow.data)).where(_UNUSED_FILE).limit(limit)
    return [Object(*row) for row in connection.execute(query)]


def _drop_files(connection: Connection) -> Sequence[Object]:
    dropped = _unused_files(connection, BATCH)
    given = {"given": [name for name, _ in dropped]}
    connection.execute(delete(FileRow).where(among(FileRow.sha256, "given")), given)
    return dropped
