"""A database is made at the newest revision, and refused where it is of a revision or a kind that envhub can't read."""

import contextlib
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from envhub.contracts.events import Event
from envhub.contracts.files import FileBytes
from envhub.contracts.ids import TRAINED
from envhub.contracts.messages import Image, Message
from envhub.contracts.store import RolloutQuery
from envhub.errors import StoreError
from envhub.store.codec import encode
from envhub.store.sql_store import open_store
from envhub.store.tables import Base
from envhub.testing.store_suite import RUN
from envhub.testing.traces import SampleRun, sample_events, sample_turn
from tests.store.old_revisions import EARLIER, HEAD, make_database

pytestmark = pytest.mark.anyio


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


@pytest.mark.parametrize("revision", EARLIER)
async def test_a_database_of_an_earlier_revision_is_upgraded_and_keeps_what_it_has(
    address: str, revision: str, tmp_path: Path
) -> None:
    events, picture = seeing_events()
    await make_database(address, revision, events, tmp_path)
    with pytest.raises(StoreError, match=f"is of revision {revision}, and this envhub reads {HEAD}; upgrade it with"):
        await open_store(address, read_only=True)
    store = await open_store(address)
    assert [encode(event) async for event in store.events(RUN)] == [encode(event) for event in events]
    page = await store.rollouts(RolloutQuery())
    assert {rollout.policy_id for rollout in page.rollouts} == {TRAINED}
    had_files = revision > "0001"  # which kept none
    assert await store.file(picture.sha256) == (picture.data if had_files else None)
    await store.append([SampleRun(RUN).submitted(7), (start := SampleRun(RUN).start(7, 0)), SampleRun(RUN).end(start)])
    assert await store.rollout(start.rollout_id) is not None
    await store.close()


def seeing_events() -> tuple[list[Event], Image]:
    """Those of a run in which a picture is shown, and the picture."""
    run, picture = SampleRun(RUN), Image("5" * 64, "image/png", 4, 4, 2, FileBytes(b"a picture's file"))
    start, seen = run.start(0, 0), replace(Message.user("Look."), images=(picture,))
    turn = run.turn(start, replace(sample_turn(0), messages=(seen,)))
    return [run.started(), run.submitted(0), start, turn, run.end(start)], picture


async def test_opening_again_changes_nothing(path: Path) -> None:
    store = await open_store(str(path))
    (run,) = await store.runs()
    assert run.members.drained
    await store.close()


@pytest.mark.parametrize("read_only", [False, True])
async def test_revision_of_a_newer_envhub_is_refused_with_both_names(path: Path, read_only: bool) -> None:
    edit(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=rf"revision 9999, and this envhub knows up to {HEAD}; .* upgrade envhub"):
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
