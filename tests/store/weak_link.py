"""A link to a PostgreSQL server that is cut when a test says so, at the worst of moments."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
from anyio.abc import ByteStream, SocketAttribute
from sqlalchemy.engine import URL

GONE = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError)


@dataclass
class WeakLink:
    """Passes everything on, until a client says `cut_at`: once, its connection is cut before the server hears of it,
    or, `answered`, as soon as the server has answered."""

    server: URL
    url: str = ""  # of the database, through this link
    cut_at: bytes = b""
    answered: bool = False
    silent: bool = False  # the server does not hear of cuts: it goes on to wait for the client
    closed: bool = False  # nobody gets through any more
    was_cut: anyio.Event = field(default_factory=anyio.Event)
    scopes: list[anyio.CancelScope] = field(default_factory=list)
    kept: list[ByteStream] = field(default_factory=list)

    def cut(self) -> None:
        """All connections, now."""
        for scope in self.scopes:
            scope.cancel()
        self.scopes.clear()

    async def serve(self, client: ByteStream) -> None:
        try:
            if not self.closed:
                server = await anyio.connect_tcp(self.server.host or "127.0.0.1", self.server.port or 5432)
                self.kept.append(server)
                with suppress(*GONE):
                    await self._pass_on(client, server)
                if not self.silent:
                    await anyio.aclose_forcefully(server)
        finally:
            await anyio.aclose_forcefully(client)

    async def _pass_on(self, client: ByteStream, server: ByteStream) -> None:
        async with anyio.create_task_group() as tasks:
            self.scopes.append(tasks.cancel_scope)
            muted = anyio.Event()
            tasks.start_soon(self._answers, server, client, muted, tasks.cancel_scope)
            with suppress(*GONE):
                async for said in client:
                    if self.cut_at and self.cut_at in said:
                        self.cut_at = b""
                        self.was_cut.set()
                        if not self.answered:
                            break
                        muted.set()
                    await server.send(said)
            tasks.cancel_scope.cancel()

    async def _answers(
        self, server: ByteStream, client: ByteStream, muted: anyio.Event, scope: anyio.CancelScope
    ) -> None:
        with suppress(*GONE):
            async for said in server:
                if muted.is_set():
                    break
                await client.send(said)
        scope.cancel()


@asynccontextmanager
async def weak_link(server: URL) -> AsyncIterator[WeakLink]:
    """A link to that database."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        _, port = listener.extra(SocketAttribute.local_address)
        url = server.set(host="127.0.0.1", port=port)
        link = WeakLink(server, url.render_as_string(hide_password=False))
        tasks.start_soon(listener.serve, link.serve)
        try:
            yield link
        finally:
            for stream in link.kept:
                await stream.aclose()
            tasks.cancel_scope.cancel()
