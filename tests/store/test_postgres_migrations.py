"""A database in PostgreSQL goes through the same revisions as a file."""

from pathlib import Path

import anyio
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from envhub.errors import StoreError
from envhub.store.sql_store import open_store
from envhub.store.tables import Base
from envhub.testing.traces import sample_events
from tests.store.conftest import text_of
from tests.store.old_revisions import EARLIER, make_database

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def old(postgres: URL, tmp_path: Path) -> str:
    """A database of the first revision, with a run in it."""
    await make_database(text_of(postgres), EARLIER[0], sample_events(), tmp_path)
    return text_of(postgres)


async def test_migrations_make_the_tables_that_the_code_reads(postgres: URL) -> None:
    await (await open_store(text_of(postgres))).close()
    engine = create_engine(postgres.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


async def test_processes_that_open_it_at_once_upgrade_it_once(old: str) -> None:
    async def open_and_read() -> None:
        store = await open_store(old)
        assert len(await store.runs()) == 1
        await store.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(open_and_read)


async def test_revision_of_a_newer_envhub_is_refused(old: str) -> None:
    with psycopg.connect(old) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"revision 9999, .* upgrade envhub"):
            await open_store(old, read_only=read_only)
