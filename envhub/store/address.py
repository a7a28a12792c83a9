"""What names a database: a file of SQLite, or the URL of one in PostgreSQL."""

from pathlib import Path
from typing import TypeAlias

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from envhub.errors import UsageError

Address: TypeAlias = Path | URL

POSTGRES = "postgresql"
_FORMS = "give a path, sqlite:///PATH, or postgresql://USER@HOST/NAME"


def address_of(url_or_path: str) -> Address:
    """The file that a path, or a URL like sqlite:///traces.db, names; or the URL of a PostgreSQL database.

    Raises:
        UsageError: it names neither.
    """
    if "://" not in url_or_path:
        return _file(url_or_path, url_or_path)
    url = _url(url_or_path)
    match url.get_backend_name():
        case "sqlite":
            return _file(url.database or "", url_or_path)
        case "postgresql" | "postgres":
            if not url.database:
                raise UsageError(f"'{shown(url_or_path)}' names no database; {_FORMS}")
            return url.set(drivername=POSTGRES)
        case other:
            raise UsageError(
                f"database '{shown(url_or_path)}' is of {other}; traces go to SQLite or PostgreSQL: {_FORMS}"
            )


def shown(url_or_path: str) -> str:
    """The same, for people and logs: without a password, or options, which may hold one."""
    if "://" not in url_or_path:
        return url_or_path
    return without_secrets(_url(url_or_path))


def without_secrets(url: URL) -> str:
    """The URL up to the name of its database, without the password."""
    return URL.create(url.drivername, url.username, None, url.host, url.port, url.database).render_as_string()


def beside(url_or_path: str, suffix: str) -> Path:
    """The place of the local files that go with a database: beside its file, or in the working directory.

    Raises:
        UsageError: it names no database.
    """
    match address_of(url_or_path):
        case Path() as path:
            return Path(f"{path}{suffix}").absolute()
        case url:
            server = "-".join(str(part) for part in (url.host, url.port, url.database) if part)
            return Path(f"{server.replace('/', '_')}{suffix}").absolute()


def _file(path: str, given: str) -> Path:
    if path in ("", ":memory:"):
        raise UsageError(f"'{given}' names no file; give a path, or use MemoryTraceStore for a throw-away run")
    return Path(path)


def _url(text: str) -> URL:
    try:
        return make_url(text)
    except (ArgumentError, ValueError):  # which repeat it, password and all
        scheme = text.split("://", 1)[0]
        raise UsageError(f"what begins with '{scheme}://' is no database URL; {_FORMS}") from None
