"""Grant: one place of a pool, given to one holder for a while, with the sandbox in it.

Invariants:
- Every call puts the deadline off, and none passes once the grant is over.
- A grant is one place: a fork lives there while the sandbox it was made from has no processes.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio

from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from envhub.contracts.waiting import Holder
from envhub.errors import SandboxFault, UsageError
from sandboxes.pool.fenced import FencedSandbox
from sandboxes.pool.made import Made, destroy

RETURNED = "it was returned"


@dataclass(slots=True, eq=False)
class Grant:
    """Its sandbox is made after it: see Pool.obtain()."""

    token: int
    holder: Holder
    spec: SandboxSpec
    clock: Callable[[], float]
    ttl_s: float
    backend: SandboxBackend
    deadline: float = 0.0
    over: str = ""  # why it is
    expired: bool = False
    made: Made | None = None
    victim: Made | None = None  # a warm sandbox that has to go first, so that there is a place for this one
    bound: bool = False  # what its holder did to the sandbox keeps it from serving anybody else, and from being parked
    ending: anyio.Lock = field(default_factory=anyio.Lock)
    _calls: int = 0  # under way
    _fork: Sandbox | None = None
    _forking: bool = False

    def give(self, made: Made) -> None:
        """Puts a sandbox into it."""
        self.made = made
        self.deadline = self.clock() + self.ttl_s

    @property
    def sandbox(self) -> Sandbox:
        if self.made is None:
            raise SandboxFault(f"lease {self.token} has no sandbox yet")
        return self.made.sandbox

    @property
    def reusable(self) -> bool:
        """The sandbox may serve another holder after a reset."""
        return self.spec.reusable and not self.bound and not self.over

    @property
    def busy(self) -> bool:
        """Something goes on in its place that could not go on elsewhere."""
        return self._calls > 0 or self._forking

    def heartbeat(self) -> None:
        """
        Raises:
            SandboxFault: it is over.
        """
        self.check()
        self.deadline = self.clock() + self.ttl_s

    def check(self) -> None:
        """
        Raises:
            SandboxFault: it is over.
        """
        if self.over:
            raise SandboxFault(f"lease {self.token} of a sandbox is over: {self.over}")

    @contextmanager
    def call(self) -> Iterator[None]:
        """A call to its sandbox: it does not run out meanwhile, however long the call takes."""
        self.check()
        self._calls += 1
        try:
            yield
        except SandboxFault as fault:
            self._explain(fault)
            raise
        finally:
            self._calls -= 1
            self.deadline = self.clock() + self.ttl_s

    def _explain(self, fault: SandboxFault) -> None:
        """The reason why the sandbox failed under a call is that its lease ended, where it did."""
        try:
            self.check()
        except SandboxFault as over:
            raise over from fault

    def expiry(self, now: float) -> str:
        """Why it has expired by now; "" where it has not."""
        if self.made is not None and now >= self.made.made_at + self.spec.lifetime_s:
            return f"its sandbox outlived its lifetime_s of {self.spec.lifetime_s:g} s"
        if self.made is not None and not self._calls and now >= self.deadline:
            return f"it expired, for nothing was asked of it for {self.ttl_s:g} s"
        return ""

    @asynccontextmanager
    async def fork(self) -> AsyncIterator[FencedSandbox]:
        if self._forking:
            raise UsageError(f"lease {self.token} has a fork already, and a lease is one place; end that one first")
        self._forking = True
        try:
            with self.call():
                self._fork = await self._forked()
            self.check()  # it may have ended meanwhile
            yield FencedSandbox(ForkFence(self, self._fork))
        finally:
            self._forking = False
            await self.end_fork()

    async def _forked(self) -> Sandbox:
        await self.sandbox.end_processes()
        snapshot = await self.sandbox.snapshot()
        try:
            return await self.backend.create(self.spec, files=snapshot)
        finally:
            with anyio.CancelScope(shield=True):
                await snapshot.close()  # its files live on while the fork needs them

    async def end_fork(self) -> None:
        fork, self._fork = self._fork, None
        if fork is not None:
            await destroy(fork)


class ForkFence:
    """What calls to a fork pass: it ends with the grant in whose place it lives."""

    def __init__(self, grant: Grant, fork: Sandbox) -> None:
        self._grant = grant
        self._fork = fork

    @property
    def id(self) -> str:
        return self._fork.id

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Sandbox]:
        with self._grant.call():
            yield self._fork

    def bind(self) -> None:
        self._grant.bound = True
