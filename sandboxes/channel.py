"""Requests to one agent and their answers, matched by number, over a stream socket."""

import asyncio
import socket
from typing import cast

import anyio

from envhub.errors import SandboxFault
from sandboxes.inside.frames import Decoder, encode


class Answer:
    """The answer to one request, once it is there."""

    def __init__(self) -> None:
        self.kind: int | None = None  # None: the channel closed first
        self.fields: list[bytes] = []
        self.body = b""
        self._settled = anyio.Event()

    def settle(self) -> None:
        self._settled.set()

    async def wait(self) -> None:
        """
        Raises:
            SandboxFault: the agent has gone.
        """
        await self._settled.wait()
        if self.kind is None:
            raise SandboxFault("the sandbox died: its agent closed the connection")


class Channel(asyncio.Protocol):
    """The host's end. A protocol and not a reader task, so that a sandbox needs no task group to live in."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._waiting: dict[int, Answer] = {}
        self._last = 0
        self._transport: asyncio.WriteTransport | None = None

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """A channel over a connected socket. Instant, and not interrupted: afterwards the socket has an owner."""
        with anyio.CancelScope(shield=True):
            _, channel = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        return channel

    def ask(self, kind: int, fields: list[bytes], body: bytes = b"") -> tuple[int, Answer]:
        """Sends a request: its number, and where its answer will appear.

        Raises:
            SandboxFault: the channel is closed.
        """
        self._last += 1
        self._waiting[self._last] = answer = Answer()
        self.tell(kind, self._last, fields, body)
        return self._last, answer

    def tell(self, kind: int, number: int, fields: list[bytes], body: bytes = b"") -> None:
        if self._transport is None:
            raise SandboxFault("the sandbox is closed")
        self._transport.write(encode(kind, number, fields, body))

    def close(self) -> None:
        """Drops the connection; whoever waits for an answer learns that there will be none."""
        if self._transport is not None:
            self._transport.abort()
            self.connection_lost(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        for kind, number, fields, body in self._decoder.feed(data):
            answer = self._waiting.pop(number, None)
            if answer:
                answer.kind, answer.fields, answer.body = kind, fields, body
                answer.settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            self._waiting.popitem()[1].settle()
