"""Objects: named bytes in one place, which may fail. Two kinds of places: local.py and remote.py."""

from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

SHARDS = tuple(f"{number:02x}" for number in range(256))  # what names begin with: a folder each


class Object(NamedTuple):
    name: str
    size_bytes: int


class Objects(Protocol):
    """Its methods block, may be called from many threads, and raise nothing but OSError."""

    def put(self, name: str, data: bytes) -> None:
        """Durable once it returns. Whoever gets it meanwhile finds it whole, or not at all."""

    def get(self, name: str) -> bytes:
        """
        Raises:
            FileNotFoundError: there is no such object.
        """

    def remove(self, names: Collection[str]) -> None:
        """Those of them that are there."""

    def shard(self, beginning: str) -> Iterator[Object]:
        """All whose names begin with one of SHARDS, and what processes that died have left behind there."""
