"""KeptCall: a request and its answer on their way through the gateway, kept where people want to look at it.

Invariant: the key that the call came with is in nothing that is kept, wherever its caller wrote it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from starlette.requests import Request

from envhub.contracts.raw_call import MAX_BODY_BYTES, RawBody, RawCall

RecordCall: TypeAlias = Callable[[RawCall], None]

HIDDEN = "(hidden)"
SECRET = ("authorization", "key", "token", "cookie", "secret", "password", "credential")  # parts of headers' names


class KeptCall:
    """One call, told piece by piece."""

    def __init__(self, request: Request, body: bytes, key: str) -> None:
        """`key`: what the call was let in by."""
        self._request = request
        self._body = body
        self._key = key
        self._answer = bytearray()  # at most MAX_BODY_BYTES, and the piece that went beyond
        self._size = 0
        self._status = 0
        self._headers: Mapping[str, str] = {}

    def begin(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """The answer begins so."""
        self._status = status
        self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}

    def add(self, body: bytes) -> None:
        """The answer goes on so."""
        self._size += len(body)
        if len(self._answer) < MAX_BODY_BYTES:
            self._answer += body

    def raw(self, turn: int) -> RawCall:
        """All of it, as far as the answer went."""
        request = self._request
        return RawCall(
            turn=turn,
            method=request.method,
            path=self._without_key(request.url.path),
            request_headers=self._headers_without_secrets(request.headers),
            request=self._kept(self._body, len(self._body)),
            status=self._status,
            response_headers=self._headers_without_secrets(self._headers),
            response=self._kept(bytes(self._answer), self._size),
        )

    def _headers_without_secrets(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            name: HIDDEN if any(part in name for part in SECRET) else self._without_key(value)
            for name, value in headers.items()
        }

    def _kept(self, body: bytes, size: int) -> RawBody:
        return RawBody.of(body.replace(self._key.encode(), HIDDEN.encode()), size)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, HIDDEN)
