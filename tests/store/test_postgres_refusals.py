"""A PostgreSQL database that can't be had is refused with what to do, and no password is ever shown."""

import time
from collections.abc import Iterator
from dataclasses import replace

import anyio
import psycopg
import pytest
from psycopg.sql import SQL, Identifier, Literal
from sqlalchemy.engine import URL

from envhub.errors import StoreError, UsageError
from envhub.store.address import beside, shown
from envhub.store.postgres import connections
from envhub.store.postgres.server import Server
from envhub.store.sql_store import open_store
from envhub.testing.traces import sample_events
from tests.store.conftest import text_of

pytestmark = pytest.mark.anyio

NEW = Server(
    version=150_004,
    encoding="UTF8",
    role="ana",
    read_only=False,
    tables=[],
    may_create=True,
    may_write=False,
    clock=0.0,
)
OURS = replace(NEW, tables=["alembic_version", "events", "rollouts"], may_create=False, may_write=True)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (replace(NEW, version=120_022), "is of PostgreSQL 12; a store needs 13 or newer: upgrade it"),
        (replace(NEW, encoding="LATIN1"), "is encoded as LATIN1; make one .* --encoding UTF8"),
        (replace(NEW, tables=["recipes"]), "is not a trace store; name one that envhub made, or an empty database"),
        (replace(NEW, may_create=False), "does not let 'ana' make tables in it; grant it, or name another role"),
        (replace(OURS, may_write=False), "does not let 'ana' write to its tables; grant it, or name another role"),
        (replace(OURS, read_only=True), "lets 'ana' only read .* name the primary"),
    ],
)
def test_a_database_that_cannot_hold_a_store_says_why(server: Server, why: str) -> None:
    with pytest.raises(StoreError, match=f"database 'traces' {why}"):
        server.check("traces", read_only=False)


def test_readers_need_not_be_able_to_write() -> None:
    replace(OURS, may_write=False, read_only=True).check("traces", read_only=True)
    for fit in (NEW, OURS):
        replace(fit, clock=time.time()).check("traces", read_only=False)


@pytest.mark.parametrize(("ahead_s", "which"), [(7200, "behind"), (-7200, "ahead of")])
def test_a_server_with_another_clock_takes_no_writers(ahead_s: float, which: str) -> None:
    why = rf"on a machine whose clock differs: this one's is 7,[12]\d\d s {which} it; set both right"
    with pytest.raises(StoreError, match=why):
        replace(OURS, clock=time.time() + ahead_s).check("traces", read_only=False)


@pytest.mark.parametrize(
    ("sqlstate", "why"),
    [
        ("53100", r"its disk is full: make room, then go on with the run .* \(could not extend file\)"),
        ("42501", "its role may not do that: grant it"),
        ("55P03", "another writer did not end its transaction within 60 s"),
    ],
)
def test_errors_of_the_server_say_what_to_do(sqlstate: str, why: str) -> None:
    with pytest.raises(StoreError, match=f"database 'traces' failed: {why}"), connections.errors("traces"):
        raise psycopg.errors.lookup(sqlstate)("could not extend file")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://ana:secret@host/traces", "is of mysql; traces go to SQLite or PostgreSQL"),
        ("postgresql://ana:secret@host", "names no database; give .* postgresql://USER@HOST/NAME"),
        ("postgresql://ana:secret@host:port/traces", "is no database URL"),
    ],
)
async def test_url_of_no_database_is_refused(url: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        await open_store(url)
    assert "secret" not in str(caught.value)


def test_what_is_shown_of_a_url_holds_no_password() -> None:
    assert shown("postgresql://ana:secret@host/traces?password=secret") == "postgresql://ana@host/traces"
    assert shown("traces.db") == "traces.db"
    assert beside("postgresql://ana:secret@host:5433/traces", ".files").name == "host-5433-traces.files"


@pytest.fixture
def role(server: URL) -> Iterator[URL]:
    """The server for one who may do nothing there yet."""
    name = "envhub_test_reader"
    with psycopg.connect(text_of(server), autocommit=True) as connection:
        connection.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(name)))
        connection.execute(SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), Literal("let me in")))
        yield server.set(username=name, password="let me in")
        connection.execute(SQL("DROP ROLE {}").format(Identifier(name)))


async def connect(url: URL, *, read_only: bool = False) -> None:
    await (await open_store(text_of(url), read_only=read_only)).close()


@pytest.mark.postgres
async def test_server_that_is_not_there_is_named_at_once(server: URL) -> None:
    with anyio.fail_after(10), pytest.raises(StoreError, match=r"://ana@127.0.0.1:1/x' failed: .*refused"):
        await connect(URL.create("postgresql", "ana", None, "127.0.0.1", 1, "x"))


@pytest.mark.postgres
async def test_wrong_password_is_refused_and_not_shown(postgres: URL, role: URL) -> None:
    with pytest.raises(StoreError, match="password authentication failed for user") as caught:
        await connect(role.set(database=postgres.database, password="wr0ng"))
    assert "wr0ng" not in str(caught.value)


@pytest.mark.postgres
async def test_role_that_may_only_read_reads_and_is_refused_as_a_writer(postgres: URL, role: URL) -> None:
    reader = role.set(database=postgres.database)
    with pytest.raises(StoreError, match="does not let 'envhub_test_reader' make tables in it"):
        await connect(reader)
    store = await open_store(text_of(postgres))
    await store.append(sample_events())
    with pytest.raises(StoreError, match="does not let 'envhub_test_reader' write to its tables"):
        await connect(reader)
    with pytest.raises(StoreError, match=r"its role may not do that: .* \(permission denied for table"):
        await connect(reader, read_only=True)
    with psycopg.connect(text_of(postgres)) as connection:
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO envhub_test_reader")
    await connect(reader, read_only=True)
    with psycopg.connect(text_of(postgres)) as connection:
        connection.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM envhub_test_reader")
    await store.close()


@pytest.mark.postgres
async def test_database_of_something_else_is_refused_and_left_alone(postgres: URL) -> None:
    with psycopg.connect(text_of(postgres)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    for read_only in (False, True):
        with pytest.raises(StoreError, match="is not a trace store"):
            await connect(postgres, read_only=read_only)
    with psycopg.connect(text_of(postgres)) as connection:
        assert connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall() == [
            ("recipes",)
        ]
