"""Bytes carried between two connections, both ways, and the forward: each connection of a port to one endpoint."""

import math
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream

CONNECT_S = 10.0
IDLE_S = 3600.0  # a long completion may be silent for minutes
GONE = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)  # what a lost peer looks like

Handler = Callable[[ByteStream], Awaitable[None]]


class Idle:
    """A scope that ends once nothing has happened in it for so long."""

    def __init__(self, idle_s: float) -> None:
        self.scope = anyio.CancelScope()
        self._idle_s = idle_s
        self.push()

    def push(self) -> None:
        """Something happened."""
        self.scope.deadline = math.inf if math.isinf(self._idle_s) else anyio.current_time() + self._idle_s


def forward_to(host: str, port: int) -> Handler:
    """A handler that carries a connection to that endpoint of the host, and closes it where nobody listens there."""

    async def carry(connection: ByteStream) -> None:
        with anyio.fail_after(CONNECT_S):
            target = await anyio.connect_tcp(host, port)
        async with target:
            await join(connection, target, IDLE_S)

    return carry


async def join(one: ByteStream, other: ByteStream, idle_s: float) -> None:
    """Carries bytes both ways until both ends have finished, one is lost, or nothing has moved for `idle_s`.

    The end of one direction is passed on and leaves the other open (RFC 9293, section 3.6, half-closed connections).
    """
    idle = Idle(idle_s)
    with idle.scope:
        async with anyio.create_task_group() as ways:
            ways.start_soon(carry_one_way, one, other, idle)
            ways.start_soon(carry_one_way, other, one, idle)


async def carry_one_way(source: ByteStream, sink: ByteStream, idle: Idle) -> None:
    """Sends on what arrives, never reading ahead of a sink that is slow; a lost end ends the other direction too."""
    try:
        async for chunk in source:
            await sink.send(chunk)
            idle.push()
        await sink.send_eof()
    except GONE:
        idle.scope.cancel()
