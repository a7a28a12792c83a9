"""RawCall: one request to the gateway and its answer, as they went over the wire, without their secrets."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

MAX_BODY_BYTES = 2**20  # kept of each body
_FAST = 1  # of zlib: a megabyte of JSON in some milliseconds


@dataclass(frozen=True, slots=True)
class RawBody:
    """A body, compressed; of a longer one its beginning."""

    packed: bytes  # by zlib
    size_bytes: int  # of the whole

    @classmethod
    def of(cls, beginning: bytes, size_bytes: int) -> "RawBody":
        """`beginning` is all of it, or its first MAX_BODY_BYTES at least."""
        return cls(zlib.compress(beginning[:MAX_BODY_BYTES], _FAST), size_bytes)

    @property
    def data(self) -> bytes:
        return zlib.decompress(self.packed)


@dataclass(frozen=True, slots=True)
class RawCall:
    """In the words of the caller's dialect. Header names are in lower case."""

    turn: int  # that it became
    method: str
    path: str  # without a key and without a query
    request_headers: Mapping[str, str]
    request: RawBody  # as the dialect reads it: no longer compressed by the caller
    status: int
    response_headers: Mapping[str, str]
    response: RawBody  # of a stream all events, in a row
