"""Revisions of the tables, and the upgrade of a database to the newest of them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from envhub.errors import StoreError


def upgrade(connection: Connection, name: str) -> None:
    """Brings the database to the newest revision, an empty one too, within the connection's transaction.

    Raises:
        StoreError: it is of a revision that this envhub does not know.
    """
    config = _config()
    _revision(connection, ScriptDirectory.from_config(config), name)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check(connection: Connection, name: str) -> None:
    """Checks that the database is of the newest revision.

    Raises:
        StoreError: it is of an older or unknown one.
    """
    script = ScriptDirectory.from_config(_config())
    found, head = _revision(connection, script, name), script.get_current_head()
    if found != head:
        raise StoreError(
            f"database '{name}' is of revision {found}, and this envhub reads {head}; "
            "upgrade it with `envhub store migrate`, or open it once for writing"
        )


def revision(connection: Connection) -> str:
    """Of the database; "": it has no tables yet."""
    return MigrationContext.configure(connection).get_current_revision() or ""


def _revision(connection: Connection, script: ScriptDirectory, name: str) -> str:
    found = revision(connection)
    known = [known.revision for known in script.walk_revisions()]
    if found and found not in known:
        raise StoreError(
            f"database '{name}' is of revision {found}, and this envhub knows up to {known[0]}; "
            "a newer envhub wrote it: upgrade envhub, or open another database"
        )
    return found


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
