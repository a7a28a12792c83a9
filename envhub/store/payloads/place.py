"""Place: where the large payloads of a database are. The database knows it, so that whoever reads it finds them."""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

from anyio import to_thread
from sqlalchemy import Connection, insert, select

from envhub.errors import StoreError, UsageError
from envhub.store.database import Database
from envhub.store.payloads.local import LocalObjects
from envhub.store.payloads.objects import Objects
from envhub.store.payloads.payloads import Payloads
from envhub.store.tables import PayloadPlaceRow

_SECRET = re.compile(r"://[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of this database's own, below a URL or path that others may share."""

    url: str
    folder: str

    @classmethod
    def at(cls, url_or_path: str) -> "Place":
        """A new one.

        Raises:
            UsageError: it holds a password, which would be in the database.
        """
        if _SECRET.search(url_or_path):
            raise UsageError(
                "the URL of the payloads holds a password, which would be kept in the database; put it where the file "
                "system's library looks for it, like AWS_SECRET_ACCESS_KEY in the environment"
            )
        return cls(_normal(url_or_path), uuid4().hex)

    def objects(self) -> Objects:
        """Blocks.

        Raises:
            UsageError: there are no such places, or what opens them is not installed.
            StoreError: there is no such folder.
        """
        if "://" not in self.url:
            return LocalObjects(_made(Path(self.url), self.folder))
        try:
            from envhub.store.payloads.remote import open_remote
        except ImportError as error:
            raise UsageError(
                f"payloads in '{self.url}' need '{error.name}'; `pip install envhub-rl[objects]`"
            ) from error
        return open_remote(self.url, self.folder)


async def open_payloads(database: Database, url_or_path: str, *, read_only: bool) -> Payloads | None:
    """Those of the database, where it says they are; "": nowhere else, so that None is there are no large ones.

    Raises:
        UsageError: they are elsewhere, or can't be there.
        StoreError: the place can't be written to.
    """
    place = await database.read(recorded)
    if place is not None and url_or_path and _normal(url_or_path) != place.url:
        raise UsageError(
            f"the payloads of '{database.name}' are in '{place.url}', not in '{url_or_path}'; leave --payloads out, or "
            "move them with `envhub store move`"
        )
    if place is None:
        return await _begun(database, Place.at(url_or_path)) if url_or_path else None
    payloads = await opened(place)
    if not read_only:
        await payloads.probe()
    return payloads


async def opened(place: Place) -> Payloads:
    """
    Raises:
        UsageError, StoreError: as `Place.objects`.
    """
    return Payloads(await to_thread.run_sync(place.objects), place.url, place.folder)


def recorded(connection: Connection) -> Place | None:
    """What the database says."""
    row = connection.execute(select(PayloadPlaceRow)).one_or_none()
    return None if row is None else Place(row.url, row.folder)


async def _begun(database: Database, place: Place) -> Payloads:
    """From now on large payloads go there, unless another process has just said where."""
    await (await opened(place)).probe()
    return await opened(await database.write(partial(_recorded_first, place=place)))


def _recorded_first(connection: Connection, place: Place) -> Place:
    first = recorded(connection)
    if first is None:
        connection.execute(insert(PayloadPlaceRow).values(number=1, url=place.url, folder=place.folder))
    return first or place


def _normal(url_or_path: str) -> str:
    if url_or_path.startswith("file://"):
        url_or_path = url_or_path.removeprefix("file://")
    return url_or_path.rstrip("/") if "://" in url_or_path else str(Path(url_or_path).absolute())


def _made(parent: Path, folder: str) -> Path:
    try:
        parent.mkdir(exist_ok=True)
        (parent / folder).mkdir(exist_ok=True)
    except OSError as error:
        raise StoreError(f"payloads can't be in '{parent}': {error}; name a folder that can be written to") from error
    return parent / folder
