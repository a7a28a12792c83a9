"""The database that a path or URL names, opened and of the newest revision."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.engine import URL

from envhub.errors import UsageError
from envhub.store import migrations
from envhub.store.address import address_of
from envhub.store.database import Database
from envhub.store.sqlite import open_sqlite


@asynccontextmanager
async def opening(url_or_path: str, *, read_only: bool) -> AsyncIterator[Database]:
    """The database, made where there is none and brought to the newest revision unless `read_only`. It stays open,
    unless what is done within fails.

    Raises:
        UsageError: it names no file of SQLite and no database in PostgreSQL, none to read, or a file in no directory.
        StoreError: what it names is no trace store, can't be reached, or is of a revision that this envhub can't read.
    """
    address = address_of(url_or_path)
    if isinstance(address, Path):
        database: Database = await open_sqlite(address, read_only=read_only)
    else:
        database = await _open_postgres(address, read_only=read_only)
    async with AsyncExitStack() as on_failure:
        on_failure.push_async_callback(database.close)
        if read_only:
            await database.read(partial(migrations.check, name=database.name))
        else:
            await database.write(partial(migrations.upgrade, name=database.name))
        yield database
        on_failure.pop_all()


async def _open_postgres(url: URL, *, read_only: bool) -> Database:
    try:
        from envhub.store.postgres.database import open_postgres
    except ImportError as error:
        raise UsageError(f"PostgreSQL needs '{error.name}'; `pip install envhub-rl[postgres]`") from error
    return await open_postgres(url, read_only=read_only)
