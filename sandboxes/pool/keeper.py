"""Keeper: makes sandboxes for a pool, and in the background what nobody waits for: warm ones, resets, old ones' end."""

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec, Snapshot
from envhub.errors import Boundary, Fault, boundary
from sandboxes.pool.made import CLOSE_S, Made
from sandboxes.pool.reset import idle_pids, reset
from sandboxes.pool.warm import Stock

RETRY_S = 10.0  # after a warm sandbox could not be made


class Keeper:
    """`changed` is called when a piece of work is done."""

    def __init__(
        self,
        backend: SandboxBackend,
        stock: Stock,
        tasks: TaskGroup,
        clock: Callable[[], float],
        changed: Callable[[], None],
    ) -> None:
        self.failed = 0
        self._backend = backend
        self._stock = stock
        self._tasks = tasks
        self._clock = clock
        self._changed = changed
        self._coming: Counter[SandboxSpec] = Counter()
        self._retry_at = 0.0
        self._empty: Snapshot | None = None  # no files, to reset to
        self._works: set[anyio.CancelScope] = set()
        self._quiet = anyio.Event()  # set once no work is left

    @property
    def busy(self) -> int:
        """How many sandboxes it works on."""
        return len(self._works)

    async def make(self, spec: SandboxSpec, files: Snapshot | None = None) -> Made:
        """A new sandbox.

        Raises:
            SandboxFault: it could not be made.
        """
        try:
            sandbox = await self._backend.create(spec, files=files)
        except Fault:
            self.failed += 1
            raise
        made = Made(sandbox, spec, self._clock())
        try:
            return replace(made, idle_pids=await self._idle(sandbox, files)) if spec.reusable else made
        except BaseException:
            await made.destroy()
            raise

    def fill(self, places: int) -> None:
        """Starts to make what the stock misses, in up to so many places."""
        if places < 1 or self._clock() < self._retry_at:
            return
        for spec in list(self._stock.missing(self._coming))[:places]:
            self._coming[spec] += 1
            self._start(partial(self._fill, spec))

    def recycle(self, made: Made) -> None:
        """Puts a used sandbox into the stock where it passes its reset, and destroys it otherwise."""
        self._start(partial(self._recycle, made))

    def discard(self, made: Made) -> None:
        """Destroys a sandbox that nobody uses."""
        self._start(made.destroy)

    async def aclose(self) -> None:
        """Gives up what it works on: what was made is destroyed. Idempotent."""
        while self._works:
            for scope in self._works:
                scope.cancel()
            await self._quiet.wait()
        empty, self._empty = self._empty, None
        if empty is not None:
            await empty.close()

    def _start(self, work: Callable[[], Awaitable[None]]) -> None:
        scope = anyio.CancelScope()
        self._works.add(scope)
        self._tasks.start_soon(self._done, work, scope)

    async def _done(self, work: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        """Its place is free again, or the stock's, when the work ends. A fault is nobody's: it was for nobody yet."""
        try:
            with scope, suppress(Fault), boundary(Boundary.SANDBOX):
                await work()
        finally:
            self._works.remove(scope)
            if not self._works:
                self._quiet.set()
                self._quiet = anyio.Event()
            self._changed()

    async def _fill(self, spec: SandboxSpec) -> None:
        try:
            with boundary(Boundary.SANDBOX):
                self._stock.put(await self.make(spec))
        except Fault:
            self._retry_at = self._clock() + RETRY_S
        finally:
            self._coming[spec] -= 1

    async def _recycle(self, made: Made) -> None:
        clean = False
        try:
            with anyio.move_on_after(CLOSE_S):
                clean = self._empty is not None and await reset(made, self._empty)
        finally:
            if not clean:
                await made.destroy()
        if clean:
            self._stock.put(made)

    async def _idle(self, sandbox: Sandbox, files: Snapshot | None) -> int:
        """How many processes a new sandbox has. The first one without files gives the snapshot to reset to."""
        if self._empty is None and files is None:
            empty = await sandbox.snapshot()
            if self._empty is None:
                self._empty = empty
            else:  # another one was quicker
                await empty.close()
        return await idle_pids(sandbox)
