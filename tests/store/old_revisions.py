"""Databases as earlier releases left them: made by the migrations up to theirs, filled with what they would have."""

from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, func, select, text

from envhub.contracts.events import Event
from envhub.store.address import address_of
from envhub.store.migrations import _config
from envhub.store.sql_store import open_store

SCRIPTS = ScriptDirectory.from_config(_config())
HEAD = SCRIPTS.get_current_head()
EARLIER = [script.revision for script in SCRIPTS.walk_revisions() if script.revision != HEAD][::-1]
TABLES = ("events", "runs", "groups", "members", "rollouts", "images")


async def make_database(address: str, revision: str, events: Sequence[Event], folder: Path) -> None:
    """A database of that revision with these events, which a store of today sorts out in the folder."""
    store = await open_store(str(folder / "of-today.db"))
    await store.append(events)
    await store.close()
    of_today, old = create_engine(f"sqlite:///{folder / 'of-today.db'}"), create_engine(_url(address))
    with of_today.connect() as source, old.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        here, there = MetaData(), MetaData()
        here.reflect(source)
        there.reflect(connection)
        for name in TABLES:
            if name not in there.tables:
                continue
            columns = [here.tables[name].c[column.name] for column in there.tables[name].columns]
            rows = [dict(row._mapping) for row in source.execute(select(*columns))]
            if rows:
                connection.execute(there.tables[name].insert(), rows)
            if connection.dialect.name == "postgresql" and "seq" in there.tables[name].c:
                last = connection.execute(select(func.coalesce(func.max(there.tables[name].c.seq), 1))).scalar_one()
                connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{name}', 'seq'), {last})"))
    of_today.dispose()
    old.dispose()


def _url(address: str) -> str:
    found = address_of(address)
    if isinstance(found, Path):
        return f"sqlite:///{found}"
    return found.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
