"""A condition on many keys is one statement whatever their number, and an index serves it."""

import sqlite3

import pytest
from sqlalchemy import Select, select
from sqlalchemy.dialects import sqlite

from envhub.store.keys import among
from envhub.store.sql_store import open_store
from envhub.store.tables import EventRow, RolloutRow

pytestmark = pytest.mark.anyio

QUERIES = {
    "rollouts at places": select(RolloutRow.turns).where(among(RolloutRow.seq, "keys")),
    "rollouts by id": select(RolloutRow.turns).where(among(RolloutRow.rollout_id, "keys")),
    "events of rollouts": select(EventRow.payload).where(EventRow.run_id == "r", among(EventRow.rollout_id, "keys")),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
async def test_many_keys_are_looked_up_and_no_table_is_walked_through(query: Select[tuple[object]], tmp_path):
    path = tmp_path / "store.db"
    await (await open_store(str(path))).close()
    text = str(query.compile(dialect=sqlite.dialect()))
    with sqlite3.connect(path) as connection:
        plan = connection.execute(f"EXPLAIN QUERY PLAN {text}", ["[]"] * text.count("?")).fetchall()
    (way,) = [step for *_, step in plan if "json_each" not in step and "LIST" not in step]
    assert way.startswith("SEARCH")
    assert "rowid=?" in way or "rollout_id=?" in way
