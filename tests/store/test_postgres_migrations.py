"""A database in PostgreSQL goes through the same revisions as a file."""

import anyio
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import URL

from envhub.contracts.ids import TRAINED
from envhub.contracts.store import RolloutQuery
from envhub.errors import StoreError
from envhub.store.sql_store import open_store
from envhub.store.tables import Base
from envhub.testing.traces import sample_events
from tests.store.conftest import text_of
from tests.store.test_migrations import BACK_TO_THE_FIRST

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


@pytest.fixture
async def old(postgres: URL) -> str:
    """A database of the first revision, with a run in it."""
    store = await open_store(text_of(postgres))
    await store.append(sample_events())
    await store.close()
    with psycopg.connect(text_of(postgres)) as connection:
        for statement in BACK_TO_THE_FIRST:
            connection.execute(statement)
    return text_of(postgres)


async def test_migrations_make_the_tables_that_the_code_reads(postgres: URL) -> None:
    await (await open_store(text_of(postgres))).close()
    engine = create_engine(postgres.set(drivername="postgresql+psycopg"))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


async def test_a_database_of_the_first_revision_is_upgraded_and_keeps_what_it_has(old: str) -> None:
    with pytest.raises(StoreError, match=r"is of revision 0001, .* open it once for writing"):
        await open_store(old, read_only=True)
    store = await open_store(old)
    (run,) = await store.runs()
    assert run.members.drained
    page = await store.rollouts(RolloutQuery())
    assert {rollout.policy_id for rollout in page.rollouts} == {TRAINED}
    await store.close()


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
