"""HttpServer: a client of one model server. JSON goes out; JSON, or a stream of events, comes back; every failure is an
EngineFault that names the server."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from envhub.engines.over_http.http1 import Connection, Connections
from envhub.engines.over_http.server_url import why
from envhub.errors import EngineFault

ANSWER_S = 60.0  # of a request that generates nothing, and until a stream begins
BUSY = (408, 425, 429)  # of the 4xx, those that another try may not meet
DONE = b"[DONE]"
CLOSED = "the engine is closed; open another one"
MOST_SHOWN = 300  # characters of a server's error
_encode = msgspec.json.Encoder().encode
Answer = TypeVar("Answer")


def may_pass(status: int) -> bool:
    """Whether a request that met this error may succeed another time."""
    return status >= 500 or status in BUSY


class HttpServer:
    """A client of one server, with as many connections as requests run. `key` is sent as a bearer token."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self._key = key
        place = urlsplit(url)
        self._prefix = place.path
        authorization = f"authorization: Bearer {key}\r\n" if key else ""
        self._headers = f"host: {place.netloc}\r\naccept: */*\r\ncontent-type: application/json\r\n{authorization}"
        self._connections = Connections(url)

    async def get(self, path: str) -> bytes:
        """
        Raises:
            EngineFault: no answer in time, or an error.
        """
        return await self._ask("GET", path, b"", ANSWER_S)

    async def post(self, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = ANSWER_S) -> bytes:
        """
        Raises:
            EngineFault: no answer in time, or an error.
        """
        return await self._ask("POST", path, _encode(body or {}), timeout_s)

    async def events(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[list[bytes], None]:
        """The data of server-sent events, those together that came together. The server is to end them with [DONE]; to
        close this iterator early hangs up, and the server frees what it held.

        Raises:
            EngineFault: an error instead of a stream, or a stream that broke off.
        """
        async with self._connected(path) as connection:
            await self._begin(connection, "POST", path, _encode(body), ANSWER_S)
            rest, done = b"", False
            while received := await connection.more():
                *lines, rest = (rest + received).split(b"\n")
                data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
                if data and data[-1] == DONE:
                    done = True  # what is left to read is the end of the response: then the connection serves again
                    data.pop()
                if data:
                    yield data
            if not done:
                raise EngineFault(f"the server {self.url} broke off its answer; look into its log")

    async def close(self) -> None:
        """Hangs up on all requests. Idempotent."""
        await self._connections.close(CLOSED)

    async def _ask(self, method: str, path: str, body: bytes, timeout_s: float) -> bytes:
        async with self._connected(path) as connection:
            await self._begin(connection, method, path, body, timeout_s)
            return await connection.rest(timeout_s)

    async def _begin(self, connection: Connection, method: str, path: str, body: bytes, timeout_s: float) -> None:
        """Returns once there is an answer whose status is no error."""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}content-length: {len(body)}\r\n\r\n"
        status = await connection.send(head.encode() + body, timeout_s)
        if status >= 400:
            raise self._refusal(path, status, await connection.rest(timeout_s))

    @asynccontextmanager
    async def _connected(self, path: str) -> AsyncIterator[Connection]:
        """A connection, whose failures are attributed."""
        if self._connections.closed:
            raise EngineFault(CLOSED, retryable=False)
        try:
            async with self._connections.one() as connection:
                yield connection
        except OSError as error:  # TimeoutError is one
            if self._connections.closed:
                raise EngineFault(CLOSED, retryable=False) from error
            raise EngineFault(f"the server {self.url} did not answer {path}: {why(error)}; see that it runs") from error

    def _refusal(self, path: str, status: int, body: bytes) -> EngineFault:
        said = body.decode(errors="replace")[:MOST_SHOWN]
        if self._key:  # some servers repeat the key that they refuse
            said = said.replace(self._key, "[key]")
        way_out = "; start it with the flags that docs/engines.md names" if status == 404 else ""
        reason = f"the server {self.url} answered {path} with status {status}: {said}{way_out}"
        return EngineFault(reason, retryable=may_pass(status))


def decoded(kind: type[Answer], answer: bytes, server: HttpServer) -> Answer:
    """An answer in JSON, with all that `kind` asks for.

    Raises:
        EngineFault: it is something else.
    """
    try:
        return msgspec.json.decode(answer, type=kind)
    except msgspec.DecodeError as error:  # its subclass ValidationError too
        shown = answer[:MOST_SHOWN].decode(errors="replace")
        raise EngineFault(f"the server {server.url} answered what can't be read ({error}): {shown}") from error
