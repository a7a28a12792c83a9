"""Requests to one agent and what it answers, matched by number, over a stream of bytes."""

import asyncio
import socket
from array import array
from collections import deque
from typing import NamedTuple, cast

import anyio

from envhub.errors import SandboxFault
from sandboxes.inside.frames import DONE, FAILED, MORE, REFUSED, Decoder, encode

LAST = (DONE, REFUSED, FAILED)
CLOSED = "the sandbox is closed"
DIED = "the sandbox died: its agent closed the connection"
RETRY_S = 0.001


class Frame(NamedTuple):
    """What the agent said for one request."""

    kind: int
    fields: list[bytes]
    body: bytes


class Call:
    """One request, and the frames that have come for it and were not taken yet."""

    __slots__ = ("_channel", "_event", "_frames", "_lost", "number", "over")

    def __init__(self, channel: "Channel", number: int) -> None:
        self.number = number
        self.over = False  # its last frame was taken
        self._channel = channel
        self._frames: deque[Frame] = deque()
        self._event: anyio.Event | None = None
        self._lost = False

    async def next(self) -> Frame:
        """The next frame, waited for.

        Raises:
            SandboxFault: the agent has gone.
        """
        if not self._frames and not self._lost:
            self._event = anyio.Event()
            await self._event.wait()
        if self._frames:
            frame = self._frames.popleft()
            self.over = frame.kind in LAST
            return frame
        raise SandboxFault(self._channel.ending)

    def tell(self, kind: int, body: bytes = b"") -> None:
        """Sends more that belongs to this request."""
        self._channel.tell(kind, self.number, [], body)

    def receive(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._wake()

    def lose(self) -> None:
        self._lost = True
        self._wake()

    def _wake(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None


class Channel(asyncio.Protocol):
    """The host's end. A protocol and not a reader task, so that a sandbox needs no task group to live in."""

    def __init__(self) -> None:
        self.ending = CLOSED  # why there is no connection, once there is none
        self._decoder = Decoder()
        self._calls: dict[int, Call] = {}
        self._last = 0
        self._transport: asyncio.WriteTransport | None = None
        self._end: socket.socket | None = None

    @classmethod
    async def over(cls, end: socket.socket) -> "Channel":
        """A channel over a connected socket. Instant, and not interrupted: afterwards the socket has an owner."""
        with anyio.CancelScope(shield=True):
            _, channel = await asyncio.get_running_loop().create_unix_connection(cls, sock=end)
        channel._end = end
        return channel

    @property
    def passes_descriptors(self) -> bool:
        return self._end is not None

    def ask(self, kind: int, fields: list[bytes], body: bytes = b"", *, more: bool = False) -> Call:
        """Sends a request. With `more`, the rest of the body is sent part by part, each when the agent asks for it.

        Raises:
            SandboxFault: the channel is closed.
        """
        call = self._new_call()
        self.tell(kind | MORE if more else kind, call.number, fields, body)
        return call

    async def ask_with(self, fd: int, kind: int, fields: list[bytes]) -> Call:
        """Sends a request with a descriptor beside it, past the transport, which knows no descriptors.

        Raises:
            SandboxFault: the channel is closed.
        """
        call = self._new_call()
        frame, rights = encode(kind, call.number, fields), array("i", [fd])
        while not self._send_beside(frame, rights):  # noqa: ASYNC110 - the transport tells nobody that it is through
            await anyio.sleep(RETRY_S)
        return call

    def tell(self, kind: int, number: int, fields: list[bytes], body: bytes = b"") -> None:
        self._connection().write(encode(kind, number, fields, body))

    def forget(self, call: Call) -> None:
        """Drops what still comes for a request. Idempotent."""
        self._calls.pop(call.number, None)

    def close(self, why: str = CLOSED) -> None:
        """Drops the connection; whoever waits for an answer learns that there will be none, and why."""
        if self._transport is not None:
            self._transport.abort()
            self._lose(why)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        try:
            frames = self._decoder.feed(data)
        except ValueError as error:
            self.close(f"the sandbox died: its agent sent {error}")
            return
        for kind, number, fields, body in frames:
            call = self._calls.pop(number, None) if kind in LAST else self._calls.get(number)
            if call:
                call.receive(Frame(kind, fields, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._lose(DIED)

    def _new_call(self) -> Call:
        self._connection()
        self._last += 1
        self._calls[self._last] = call = Call(self, self._last)
        return call

    def _connection(self) -> asyncio.WriteTransport:
        if self._transport is None:
            raise SandboxFault(self.ending)
        return self._transport

    def _send_beside(self, frame: bytes, rights: "array[int]") -> bool:
        """Whether it could be sent: what the transport still holds has to go first."""
        if self._connection().get_write_buffer_size() or self._end is None:
            return False
        try:
            sent = self._end.sendmsg([frame], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        except BlockingIOError:
            return False
        if sent < len(frame):
            self._connection().write(frame[sent:])
        return True

    def _lose(self, why: str) -> None:
        self._transport, self.ending = None, why
        while self._calls:
            self._calls.popitem()[1].lose()
