"""A database is made at the newest revision, and refused where it is of a revision or a kind that envhub can't read."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from envhub.contracts.ids import TRAINED
from envhub.contracts.store import RolloutQuery
from envhub.errors import StoreError
from envhub.store.sql_store import open_store
from envhub.store.tables import Base
from envhub.testing.traces import sample_events

pytestmark = pytest.mark.anyio

BACK_TO_THE_FIRST = (
    "DROP TABLE images",
    "ALTER TABLE rollouts DROP COLUMN policy_id",
    "DROP INDEX ix_events_group_id",
    "DROP INDEX ix_events_of_runs",
    *(f"CREATE INDEX ix_rollouts_{column} ON rollouts ({column})" for column in ("environment", "status", "reward")),
    "UPDATE alembic_version SET version_num = '0001'",
)


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """A database with a run in it."""
    store = await open_store(str(tmp_path / "traces.db"))
    await store.append(sample_events())
    await store.close()
    return tmp_path / "traces.db"


def edit(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_migrations_make_the_tables_that_the_code_reads(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    engine.dispose()


async def test_a_database_of_the_first_revision_is_upgraded_and_keeps_what_it_has(path: Path) -> None:
    for statement in BACK_TO_THE_FIRST:
        edit(path, statement)
    with pytest.raises(StoreError, match="is of revision 0001, and this envhub reads 0003; open it once for writing"):
        await open_store(str(path), read_only=True)
    store = await open_store(str(path))
    (run,) = await store.runs()
    assert run.members.drained
    assert await store.image("5" * 64) is None
    page = await store.rollouts(RolloutQuery())
    assert {rollout.policy_id for rollout in page.rollouts} == {TRAINED}  # from the events of their starts
    await store.close()


async def test_opening_again_changes_nothing(path: Path) -> None:
    store = await open_store(str(path))
    (run,) = await store.runs()
    assert run.members.drained
    await store.close()


@pytest.mark.parametrize("read_only", [False, True])
async def test_revision_of_a_newer_envhub_is_refused_with_both_names(path: Path, read_only: bool) -> None:
    edit(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"revision 9999, and this envhub knows up to 0003; .* upgrade envhub"):
        await open_store(str(path), read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
async def test_database_of_something_else_is_refused_and_left_alone(tmp_path: Path, read_only: bool) -> None:
    edit(tmp_path / "other.db", "CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreError, match="is not a trace store"):
        await open_store(str(tmp_path / "other.db"), read_only=read_only)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("recipes",)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_empty_file_becomes_a_store_but_is_none_to_read(tmp_path: Path) -> None:
    (tmp_path / "traces.db").touch()
    with pytest.raises(StoreError, match="is not a trace store"):
        await open_store(str(tmp_path / "traces.db"), read_only=True)
    store = await open_store(str(tmp_path / "traces.db"))
    assert await store.runs() == ()
    await store.close()


async def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database " * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        await open_store(str(tmp_path / "notes.txt"))
