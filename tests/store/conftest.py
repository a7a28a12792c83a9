"""What the tests of the stores share."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import anyio
import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy.engine import URL, make_url

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.store.sql_store import SqlTraceStore
from tests.store.s3_server import S3Server, s3_server
from tests.store.weak_link import WeakLink, weak_link

pytest.register_assert_rewrite("envhub.testing.store_suite")


@pytest.fixture(scope="session")
def server() -> URL:
    """A PostgreSQL server, as one who may make databases there."""
    if not (url := os.environ.get("ENVHUB_POSTGRES")):
        pytest.skip(
            "needs ENVHUB_POSTGRES, the URL of a PostgreSQL server for tests; `.ci/postgres start DIR` gives one"
        )
    return make_url(url)


@pytest.fixture
def postgres(server: URL) -> Iterator[URL]:
    """An empty database."""
    url = server.set(database=f"envhub_test_{uuid4().hex[:12]}")
    with psycopg.connect(text_of(server), autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(url.database)))
        yield url
        connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(url.database)))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store may be made: a file, and a database."""
    if request.param == "sqlite":
        return str(tmp_path / "traces.db")
    return text_of(request.getfixturevalue("postgres"))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with a bucket."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture
async def link(postgres: URL) -> AsyncIterator[WeakLink]:
    """A way to the database that can be cut."""
    async with weak_link(postgres) as link:
        yield link


def text_of(url: URL) -> str:
    return url.render_as_string(hide_password=False)


async def until_it_can_be_held(store: SqlTraceStore) -> None:
    """A server may hear of a death a moment later."""
    with anyio.fail_after(20):
        while True:
            with suppress(UsageError):
                async with store.hold(RunId("sample")):
                    return
            await anyio.sleep(0.05)
