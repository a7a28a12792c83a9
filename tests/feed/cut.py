"""A network between a client and its server that can be cut."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketStream


class Network:
    """Passes bytes on. Cut, it ends what is open and takes nothing new; stalled, it keeps everything back."""

    def __init__(self, server: str) -> None:
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._open: set[anyio.CancelScope] = set()
        self._whole = True
        self._flows = anyio.Event()
        self._flows.set()
        self.address = ""

    def cut(self) -> None:
        self._whole = False
        for scope in self._open:
            scope.cancel()

    def stall(self) -> None:
        self._flows = anyio.Event()

    def heal(self) -> None:
        self._whole = True
        self._flows.set()

    async def handle(self, client: SocketStream) -> None:
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            async with client:
                if self._whole:
                    async with await anyio.connect_tcp(*self._server) as server, anyio.create_task_group() as tasks:
                        tasks.start_soon(self._pass_on, client, server, tasks.cancel_scope)
                        tasks.start_soon(self._pass_on, server, client, tasks.cancel_scope)
        self._open.discard(scope)

    async def _pass_on(self, source: SocketStream, sink: SocketStream, scope: anyio.CancelScope) -> None:
        try:
            async for data in source:
                await self._flows.wait()
                await sink.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def network(server: str) -> AsyncIterator[Network]:
    """A network before the server, with an address of its own."""
    wire = Network(server)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        port = listener.listeners[0].extra(anyio.abc.SocketAttribute.local_port)
        wire.address = f"127.0.0.1:{port}"
        tasks.start_soon(listener.serve, wire.handle)
        yield wire
        tasks.cancel_scope.cancel()
