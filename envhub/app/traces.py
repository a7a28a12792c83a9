"""The traces in a database, and what they say of a run."""

from pathlib import Path

import anyio

from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberCounts
from envhub.errors import StoreError, UsageError
from envhub.store.address import address_of
from envhub.store.sql_store import SqlTraceStore, open_store


async def open_traces(
    database: str, *, existing: bool = False, read_only: bool = False, payloads: str = ""
) -> SqlTraceStore:
    """The store in that file or database, made where there is none unless it must exist; `payloads` is for large ones,
    unless it has a place for them.

    Raises:
        UsageError: it can't be one of ours, or is not there.
    """
    address = address_of(database)
    if existing and isinstance(address, Path) and not await anyio.Path(address).exists():
        raise UsageError(f"no database '{database}'; `envhub run` makes one, --database names another")
    try:
        return await open_store(database, read_only=read_only, payloads=payloads)
    except StoreError as error:
        raise UsageError(str(error)) from error


async def has_run(database: str, run_id: RunId) -> bool:
    """Whether a run of that name is in the database, which is made where there is none.

    Raises:
        UsageError: it can't be one of ours.
    """
    store = await open_traces(database)
    try:
        return any(run.run_id == run_id for run in await store.runs())
    finally:
        await store.close()


async def stored_members(database: str, run_id: RunId) -> MemberCounts:
    """Where every submitted member of a run is, as its database has it."""
    store = await open_traces(database, read_only=True)
    try:
        return next(run.members for run in await store.runs() if run.run_id == run_id)
    finally:
        await store.close()
