"""A store that is damaged, cut off or half written is told plainly, and the rest of the dashboard goes on."""

import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from envhub.dashboard.api import create_app
from envhub.store.sql_store import open_store
from tests.dashboard.recording import CHILD, DECODER, LIVE, SOLVED, recording

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


@pytest.fixture
async def page(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Over a database that holds the small run."""
    store = await open_store(str(path))
    await store.append(recording())
    transport = httpx.ASGITransport(create_app(store, DECODER))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    await store.close()


def edit(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_a_damaged_event_is_told_and_other_rollouts_are_shown(page: httpx.AsyncClient, path: Path):
    edit(path, f"UPDATE events SET payload = x'00' WHERE rollout_id = '{SOLVED}'")
    answer = await page.get(f"/api/rollouts/{SOLVED}")
    assert answer.status_code == 503
    assert "is damaged" in answer.json()["detail"]
    assert (await page.get(f"/api/rollouts/{LIVE}")).status_code == 200
    assert (await page.get("/api/rollouts")).json()["total"] == 4


async def test_a_rollout_whose_end_was_never_written_is_shown_as_far_as_it_went(page: httpx.AsyncClient):
    shown = (await page.get(f"/api/rollouts/{LIVE}")).json()
    assert (shown["summary"]["status"], shown["score"], shown["failure"]) == (None, None, None)
    assert len(shown["transcript"]) == 2
    assert (await page.get(f"/api/rollouts/{CHILD}")).json()["transcript"] != []


async def test_tables_that_are_gone_are_told(page: httpx.AsyncClient, path: Path):
    edit(path, "DROP TABLE events")
    answer = await page.get(f"/api/rollouts/{SOLVED}")
    assert answer.status_code == 503
    assert "no such table: events" in answer.json()["detail"]
