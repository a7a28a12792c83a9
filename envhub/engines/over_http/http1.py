"""Connections to one server over HTTP/1.1 (RFC 9112), kept open between requests.

Invariants: a connection has one request at a time; one whose answer was not read to its end is closed, never used
again; of what has come and was not taken, no more than MOST_HELD waits in memory.

General clients cost a generation more CPU than all else that its answer needs (ADR 009). Engines' servers need neither
redirects nor cookies, proxies or compression.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast
from urllib.parse import urlsplit

import anyio
import httptools
from anyio.lowlevel import checkpoint

CONNECT_S = 10.0
IDLE_S = 4.0  # the servers' HTTP layer closes a connection that was idle for 5 s; we let go of it before
MOST_HELD = 1 << 20
FRAMES = (b"content-length", b"transfer-encoding")  # headers by which the end of a body is known


class Connection(asyncio.Protocol):
    """One connection. To `send` a request answers with its status; `more` then gives the body, to its end."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._status = 0
        self._is_framed = False
        self._is_whole = True  # the answer is; before the first request there is none
        self._keeps_alive = True
        self._pieces: list[bytes] = []
        self._held = 0  # bytes
        self._is_held_up = False  # the server, until some is taken
        self._lost: OSError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.idle_since = 0.0

    @property
    def is_reusable(self) -> bool:
        return self._is_whole and self._keeps_alive and self._lost is None and not self._pieces

    async def send(self, request: bytes, within_s: float) -> int:
        """The status of the answer.

        Raises:
            OSError: there is none in time.
        """
        self._status, self._is_framed, self._is_whole = 0, False, False
        self._transport.write(request)
        with self._within(within_s):
            while not self._status:
                await self._news()
        return self._status

    async def more(self) -> bytes:
        """What came of the body since the last time; b"" at its end.

        Raises:
            OSError: it broke off.
        """
        while not self._pieces:
            if self._is_whole:
                return b""
            await self._news()
        pieces, self._pieces, self._held = self._pieces, [], 0
        if self._is_held_up:
            self._is_held_up = False
            self._transport.resume_reading()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def rest(self, within_s: float) -> bytes:
        """The body, to its end.

        Raises:
            OSError: it broke off, or is not there in time.
        """
        pieces = []
        with self._within(within_s):
            while piece := await self.more():
                pieces.append(piece)
        return b"".join(pieces)

    def abort(self, reason: str) -> None:
        """Hangs up. Who waits hears the reason."""
        self._lose(ConnectionAbortedError(reason))
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._status and not self._is_framed:
            self._is_whole = True  # it lasted until the connection closed (RFC 9112, 6.3)
        self._lose(exc if isinstance(exc, OSError) else ConnectionResetError("it closed the connection"))

    def data_received(self, data: bytes) -> None:
        if self._is_whole:
            self.abort("it said what it was not asked for")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.abort(f"it does not speak HTTP: {error}")
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._is_framed = self._is_framed or name.lower() in FRAMES

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:  # lower ones say that the answer is still to come
            self._status = status

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._held += len(body)
        if self._held > MOST_HELD and not self._is_held_up:
            self._is_held_up = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        if self._status:
            self._is_whole, self._keeps_alive = True, self._parser.should_keep_alive()

    @contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        """Hangs up where the block takes longer: a timer costs less than a cancel scope."""
        timer = self._loop.call_later(seconds, self.abort, f"no answer within {seconds:g} s")
        try:
            yield
        finally:
            timer.cancel()

    async def _news(self) -> None:
        """Returns once something has happened."""
        if self._lost is not None:
            raise self._lost
        self._waiter = self._loop.create_future()
        await self._waiter

    def _lose(self, error: OSError) -> None:
        self._lost = self._lost or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connections:
    """Those to the server of a URL, as many as requests run."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        self._tls: ssl.SSLContext | None = None
        self._idle: deque[Connection] = deque()  # the one that was used last comes last
        self._all: set[Connection] = set()
        self.closed = ""  # why there are none any more

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """A connection for one request.

        Raises:
            OSError: the server can't be reached.
        """
        connection = self._kept() or await self._opened()
        try:
            yield connection
        finally:
            if connection.is_reusable and not self.closed:
                connection.idle_since = asyncio.get_running_loop().time()
                self._idle.append(connection)
            else:
                self._drop(connection)

    async def close(self, reason: str) -> None:
        """Hangs up on all requests. Idempotent."""
        self.closed = self.closed or reason
        for connection in list(self._all):
            self._drop(connection)
        await checkpoint()  # in which the loop lets go of the sockets

    def _kept(self) -> Connection | None:
        """One that is open and was not idle for long; those that were are closed."""
        stale = asyncio.get_running_loop().time() - IDLE_S
        while self._idle and self._idle[0].idle_since < stale:
            self._drop(self._idle.popleft())
        while self._idle:
            connection = self._idle.pop()
            if connection.is_reusable:
                return connection
            self._drop(connection)
        return None

    async def _opened(self) -> Connection:
        if self._is_secure and self._tls is None:
            self._tls = ssl.create_default_context()
        with anyio.fail_after(CONNECT_S):
            _, connection = await asyncio.get_running_loop().create_connection(
                Connection, self._host, self._port, ssl=self._tls
            )
        self._all.add(connection)
        if self.closed:
            self._drop(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        connection.abort(self.closed or "nobody waits for its answer")
