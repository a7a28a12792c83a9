"""Lease: the right to a sandbox for a while. Whoever kept the sandbox beyond it finds every call refused.

Invariants:
- A lease has one grant of a place, or none and the files of its sandbox: it is parked.
- A parked lease asks for a place again at the first call that needs one, and at the latest when parking ends.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio

from envhub.contracts.sandbox import Sandbox, Snapshot
from envhub.errors import SandboxFault
from sandboxes.pool.fenced import FencedSandbox
from sandboxes.pool.grant import Grant
from sandboxes.pool.queue import Request


class Source(Protocol):
    """Where grants come from, and go back to."""

    async def obtain(self, request: Request, files: Snapshot | None) -> Grant:
        """A grant with a sandbox. May be asked for again with the same request once that was given back.

        Raises:
            LeaseUnavailable: none is to be had.
            SandboxFault: the sandbox could not be made.
        """

    async def give_back(self, request: Request) -> None:
        """Ends its grant and destroys the sandbox, or its wait for one. Idempotent."""


class Lease:
    """See contracts.SandboxLease."""

    def __init__(self, source: Source, request: Request) -> None:
        self._source = source
        self._request = request
        self.calls = 0
        self._grant: Grant | None = None  # while parked, the last one
        self._files: Snapshot | None = None  # while parked
        self._moving = anyio.Lock(fast_acquire=True)
        self._sandbox = FencedSandbox(self)

    async def begin(self, files: Snapshot | None) -> None:
        self._grant = await self._source.obtain(self._request, files)

    async def end(self) -> None:
        await self._source.give_back(self._request)
        with anyio.CancelScope(shield=True):
            await self._drop_files()

    @property
    def sandbox(self) -> Sandbox:
        return self._sandbox

    @property
    def token(self) -> int:
        return self._granted().token

    @property
    def id(self) -> str:
        """Of its sandbox now; of the last one, while it is parked."""
        return self._granted().sandbox.id

    def heartbeat(self) -> None:
        if self._files is None:
            self._granted().heartbeat()

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Sandbox]:
        """A call to its sandbox, which comes back for it where the lease is parked."""
        grant = await self._present()
        self.calls += 1
        with grant.call():
            yield grant.sandbox

    def bind(self) -> None:
        self._granted().bound = True

    @asynccontextmanager
    async def fork(self) -> AsyncIterator[Sandbox]:
        grant = await self._present()
        async with grant.fork() as fork:
            yield fork

    @asynccontextmanager
    async def park(self) -> AsyncIterator[None]:
        await self._put_away()
        yield
        await self._present()

    def _granted(self) -> Grant:
        if self._grant is None:
            raise SandboxFault("the lease was not granted yet")
        return self._grant

    async def _put_away(self) -> None:
        """Gives the place back and keeps the files, unless it must stay where it is, or is away."""
        async with self._moving:
            grant = self._granted()
            if self._files is not None or grant.busy or grant.bound:
                return
            self._files = await kept_files(grant)
            self._request.returns = True
            await self._source.give_back(self._request)

    async def _present(self) -> Grant:
        """Its grant, asked for again where the lease is parked."""
        async with self._moving:
            if self._files is not None:
                self._grant = await self._source.obtain(self._request, self._files)
                with anyio.CancelScope(shield=True):
                    await self._drop_files()
        return self._granted()

    async def _drop_files(self) -> None:
        files, self._files = self._files, None
        if files is not None:
            await files.close()


async def kept_files(grant: Grant) -> Snapshot:
    """
    Raises:
        SandboxFault: the sandbox died, or its lease ended meanwhile.
    """
    with grant.call():
        await grant.sandbox.end_processes()
        files = await grant.sandbox.snapshot()
    if grant.over:
        with anyio.CancelScope(shield=True):
            await files.close()
    grant.check()
    return files
