"""RolloutSandboxes: those of one rollout, leased at the first call for each spec and returned when it ends."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TypeAlias

import anyio

from envhub.contracts.sandbox import Sandbox, SandboxSpec, Snapshot
from envhub.contracts.sandbox_pool import SandboxLease, SandboxPool
from envhub.contracts.waiting import Holder
from envhub.environments.forks import chosen
from envhub.errors import Boundary, SandboxFault, UsageError, boundary

# What a rollout does while it waits for a place.
Waiting: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class RolloutSandboxes:
    """To be entered for as long as its rollout runs. They start from the files of `inherited`, unless others are given.

    Most rollouts have none: so all that leasing needs is made by the first one.
    """

    __slots__ = ("_inherited", "_leasing", "_pool", "_stack", "leases")

    def __init__(self, pool: SandboxPool | None, inherited: Snapshot | None = None) -> None:
        self.leases: dict[SandboxSpec, SandboxLease] = {}
        self._pool = pool
        self._inherited = inherited
        self._leasing: anyio.Lock | None = None
        self._stack: AsyncExitStack | None = None

    async def __aenter__(self) -> None:
        """They are returned at the end of the block."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._stack.__aexit__(kind, error, traceback) if self._stack else None

    async def get(self, spec: SandboxSpec, files: Snapshot | None, holder: Holder, waiting: Waiting) -> Sandbox:
        """The one of that spec.

        Raises:
            SandboxFault: there are none in this run, or none could be had.
            UsageError: it is there already, so it can't start from those files.
        """
        if self._pool is None:
            raise SandboxFault(
                "no sandbox back end is in use; see `envhub doctor`, or name one with --sandbox", retryable=False
            )
        self._leasing = self._leasing or anyio.Lock()
        async with self._leasing:
            if spec in self.leases and files is not None:
                raise UsageError(
                    "this rollout has its sandbox of that spec already, so it can't start from other files; "
                    "ctx.sandbox(spec, files=...) must be the first call for a spec, or use sandbox.restore(files)"
                )
            if spec not in self.leases:
                lease = self._pool.lease(spec, holder, files=files or self._inherited)
                async with waiting():
                    self._stack = self._stack or AsyncExitStack()
                    self.leases[spec] = await self._stack.enter_async_context(lease)
        return self.leases[spec].sandbox

    def heartbeat(self) -> None:
        """Keeps them, though nothing is asked of them for long.

        Raises:
            SandboxFault: one is lost.
        """
        for lease in self.leases.values():
            lease.heartbeat()

    @asynccontextmanager
    async def parked(self) -> AsyncIterator[None]:
        """They are given up but for their files."""
        async with AsyncExitStack() as parked:
            for lease in list(self.leases.values()):
                await parked.enter_async_context(lease.park())
            yield

    @asynccontextmanager
    async def fork(self, spec: SandboxSpec | None) -> AsyncIterator[Sandbox]:
        """A sandbox with the files of the one of that spec, or of the only one."""
        async with self.leases[chosen(spec, self.leases)].fork() as sandbox:
            yield sandbox

    async def end_processes(self) -> None:
        """Ends what the agent left running in them: the judge works there next, on files alone."""
        for lease in self.leases.values():
            with boundary(Boundary.SANDBOX):
                await lease.sandbox.end_processes()
