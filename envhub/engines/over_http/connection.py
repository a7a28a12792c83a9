"""HttpServer: a client of one model server. JSON goes out; JSON, or a stream of events, comes back; every failure is an
EngineFault that names the server."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import aiohttp
import anyio
import msgspec

from envhub.errors import EngineFault

CONNECT_S = 10.0
ANSWER_S = 60.0  # of a request that generates nothing, and until a stream begins
IDLE_S = 4.0  # the servers' HTTP layer closes a connection that was idle for 5 s; we let go of it before
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
    """Connections to one server, as many as requests run. `key` is sent as a bearer token."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self._key = key
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        self._opened: aiohttp.ClientSession | None = None  # in the loop that asks first
        self._closed = False

    async def get(self, path: str) -> bytes:
        """
        Raises:
            EngineFault: no answer in time, or an error.
        """
        async with self._request("GET", path, b"", ANSWER_S) as response:
            return await response.read()

    async def post(self, path: str, body: Mapping[str, object] | None = None, *, timeout_s: float = ANSWER_S) -> bytes:
        """
        Raises:
            EngineFault: no answer in time, or an error.
        """
        async with self._request("POST", path, _encode(body or {}), timeout_s) as response:
            return await response.read()

    async def events(self, path: str, body: Mapping[str, object]) -> AsyncGenerator[list[bytes], None]:
        """The data of server-sent events, those together that came together. The server is to end them with [DONE]; to
        close this iterator early hangs up, and the server frees what it held.

        Raises:
            EngineFault: an error instead of a stream, or a stream that broke off.
        """
        async with self._request("POST", path, _encode(body), None) as response:
            rest, done = b"", False
            while received := await _more(response):
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
        self._closed = True
        if self._opened is not None:
            await self._opened.close()

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: bytes, timeout_s: float | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response whose status is no error; one that is not read to its end is hung up on."""
        limits = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)
        with self._attributed(path):
            with anyio.fail_after(ANSWER_S if timeout_s is None else timeout_s):
                response = await self._session().request(method, self.url + path, data=body, timeout=limits)
            try:
                if response.status >= 400:
                    raise self._refusal(path, response.status, await response.read())
                yield response
            finally:
                response.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise EngineFault(CLOSED, retryable=False)
        if self._opened is None:
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S)
            self._opened = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._opened

    @contextmanager
    def _attributed(self, path: str) -> Iterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            if self._closed:
                raise EngineFault(CLOSED, retryable=False) from error
            reason = str(error) or type(error).__name__
            raise EngineFault(f"the server {self.url} did not answer {path} ({reason}); see that it runs") from error

    def _refusal(self, path: str, status: int, body: bytes) -> EngineFault:
        said = body.decode(errors="replace")[:MOST_SHOWN]
        if self._key:  # some servers repeat the key that they refuse
            said = said.replace(self._key, "[key]")
        way_out = "; start it with the flags that docs/engines.md names" if status == 404 else ""
        reason = f"the server {self.url} answered {path} with status {status}: {said}{way_out}"
        return EngineFault(reason, retryable=may_pass(status))


async def _more(response: aiohttp.ClientResponse) -> bytes:
    """What came since the last call; b"" at the end."""
    try:
        return await response.content.readany()
    except RuntimeError as error:  # aiohttp's word for a connection that was closed before it was asked
        raise aiohttp.ClientConnectionError(str(error)) from error


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
