"""The move of a database's payloads to another place. Who still writes to the old one is refused from then on."""

from collections.abc import Collection
from functools import partial
from itertools import islice

from sqlalchemy import Connection, not_, select, update

from envhub.errors import UsageError
from envhub.store.database import Database
from envhub.store.payloads import register
from envhub.store.payloads.garbage import Heap
from envhub.store.payloads.objects import SHARDS
from envhub.store.payloads.payloads import Payloads
from envhub.store.payloads.place import Place, opened, recorded
from envhub.store.tables import PayloadPlaceRow, PayloadRow

AT_ONCE = 16  # payloads in memory


async def move(database: Database, url_or_path: str) -> Heap:
    """Copies what runs use, checks it, and says in the database that it is there now. What was copied stays at the old
    place, too.

    Raises:
        UsageError: the database has no payloads elsewhere, or they are there already.
        StoreError: a payload can't be read, or not written there.
    """
    old, new = await database.read(recorded), Place.at(url_or_path)
    if old is None:
        raise UsageError(f"'{database.name}' has no payloads elsewhere; `envhub run --payloads URL` begins with it")
    if old.url == new.url:
        raise UsageError(f"the payloads of '{database.name}' are in '{old.url}' already; name another place")
    source, target = await opened(old), await opened(new)
    await target.probe()
    copied: set[str] = set()
    heap = Heap()
    while missing := await database.write(partial(_moved, place=new, copied=copied)):
        heap += await _copy(missing, source, target)
        copied |= missing
    return heap


async def _copy(hashes: Collection[str], source: Payloads, target: Payloads) -> Heap:
    heap, left = Heap(), iter(sorted(hashes))
    while some := list(islice(left, AT_ONCE)):
        found = await source.get(some)
        await target.put(found)
        heap += Heap(len(found), sum(map(len, found.values())))
    return heap


def _moved(connection: Connection, place: Place, copied: set[str]) -> set[str]:
    """What is still to be copied; where that is nothing, they are at the new place from now on."""
    used = {sha256 for shard in SHARDS for sha256 in register.used(connection, shard)}
    if used <= copied:
        connection.execute(update(PayloadPlaceRow).values(url=place.url, folder=place.folder))
        there = select(PayloadRow.sha256).where(not_(register.UNUSED))
        connection.execute(update(PayloadRow).where(PayloadRow.sha256.not_in(there)).values(stored=False))
    return used - copied
