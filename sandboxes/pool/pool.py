"""Leases sandboxes under one cap on how many live: warm where one is ready, and in a fair order.

Invariants:
- A lease is returned once, whatever ends it: its holder, its deadline, or the pool. Its sandbox is destroyed once, or
  has passed a verified reset before it serves another.
- What is leased, warm, being made, reset or destroyed is `max_live` together at most. A warm sandbox gives its place to
  a request of another spec.
- Waiting can't deadlock: see Waits.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from itertools import count

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.quota import Quota
from envhub.contracts.sandbox import SandboxBackend, SandboxSpec, Snapshot
from envhub.contracts.sandbox_pool import PoolStats
from envhub.contracts.waiting import Holder, Waits
from envhub.errors import LeaseUnavailable
from sandboxes.pool.admission import SPEC, TENANT, Admission
from sandboxes.pool.grant import RETURNED, Grant
from sandboxes.pool.keeper import Keeper
from sandboxes.pool.lease import Lease
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.queue import Request
from sandboxes.pool.quotas import PoolQuotas
from sandboxes.pool.tally import Tally
from sandboxes.pool.warm import Stock

LOOK_S = 1.0  # how late a lease that ran out may be found
CLOSED = "the sandbox pool is closed"
DRAINS = "the sandbox pool drains: it grants no more leases"
DEADLOCK = (
    "all sandboxes that this request could get (max_live {0.max_live}, max_per_tenant {0.max_per_tenant}, max_per_spec "
    "{0.max_per_spec}) are leased to rollouts that wait, themselves or through a child, for what is never given back; "
    "raise the limit, or let a parent give its sandbox back before it starts children"
)


class Pool:
    """A SandboxPool over one back end; see open_pool()."""

    def __init__(
        self,
        backend: SandboxBackend,
        limits: PoolLimits,
        stock: Stock,
        tasks: TaskGroup,
        clock: Callable[[], float],
    ) -> None:
        self._backend = backend
        self._limits = limits
        self._stock = stock
        self._tasks = tasks
        self._clock = clock
        self._keeper = Keeper(backend, stock, tasks, clock, self._settle)
        self.waits = Waits()
        self._grants: dict[Request, Grant] = {}
        self.quotas = PoolQuotas(
            Quota(limits.max_live, self._live, self._wanted, self._settle),
            self._quota_of(limits.max_per_tenant, TENANT),
            self._quota_of(limits.max_per_spec, SPEC),
        )
        self._admission = Admission(self.quotas, self.waits, self._refuse_deadlock)
        self._tokens = count(1)
        self._tally = Tally()
        self._refusal = ""  # of every request, once it drains or is closed
        self._all_returned = anyio.Event()
        self._settle()

    @asynccontextmanager
    async def lease(self, spec: SandboxSpec, holder: Holder, *, files: Snapshot | None = None) -> AsyncIterator[Lease]:
        """See contracts.SandboxPool.

        Its end waits until the sandbox's processes are dead and, unless it is reusable, until nothing of it is left:
        what comes after the holder must find nothing that still acts. Resets and new warm ones don't keep it.

        Raises:
            LeaseUnavailable: it would deadlock, the queue is full, the wait's deadline passed, or the pool drains.
            SandboxFault: the back end could not make one.
        """
        lease = Lease(self, Request(spec, holder))
        try:
            await lease.begin(files)
            yield lease
        finally:
            await lease.end()

    def stats(self) -> PoolStats:
        return self._tally.stats(
            live=sum(not grant.expired for grant in self._grants.values()),
            warm=self._stock.counts,
            waiting=self._admission.waiting,
            failed=self._keeper.failed,
        )

    def expire(self) -> None:
        """Ends the leases that have run out by now, and lets go of warm sandboxes that are too old to be leased."""
        now = self._clock()
        for request, grant in self._grants.items():
            if not grant.over and (reason := grant.expiry(now)):
                grant.over, grant.expired = reason, True
                self._tally.expired += 1
                self._tasks.start_soon(self._end, request)
        for made in self._stock.take_stale(now):
            self._keeper.discard(made)
        self._settle()

    async def drain(self, deadline_s: float) -> int:
        """Grants no more leases, waits for those that are held, and closes the pool; returns how many it cut off."""
        self._refuse_all(DRAINS)
        if self._grants:
            with anyio.move_on_after(deadline_s):
                await self._all_returned.wait()
        cut_off = len(self._grants)
        await self.aclose()
        return cut_off

    async def aclose(self) -> None:
        """Refuses whoever waits, and destroys all sandboxes, leased or not. Idempotent."""
        self._refuse_all(CLOSED)
        await self._keeper.aclose()
        async with anyio.create_task_group() as group:
            for request, grant in self._grants.items():
                grant.over = grant.over or CLOSED
                group.start_soon(self._end, request)
            while (made := self._stock.take_least_wanted()) is not None:
                group.start_soon(made.destroy)

    async def obtain(self, request: Request, files: Snapshot | None) -> Grant:
        """See lease.Source."""
        request.asked_at, request.wants_files = self._clock(), files is not None
        try:
            await self._wait(request)
            grant = self._grants[request]
            if grant.made is None:
                await self._equip(grant, files)
        except BaseException:
            await self.give_back(request)
            raise
        return grant

    async def give_back(self, request: Request) -> None:
        """See lease.Source."""
        if self._admission.waits(request):
            self._admission.leave(request)
            self._settle()
        elif request in self._grants:
            await self._end(request)

    async def _wait(self, request: Request) -> None:
        """Until the request is granted."""
        request.decided, request.refusal = None, ""
        self._enter(request)
        if self._admission.waits(request):
            request.decided = anyio.Event()
            with anyio.move_on_after(self._limits.wait_s):
                await request.decided.wait()
        if self._admission.waits(request):
            raise self._refused(
                f"no sandbox became free within {self._limits.wait_s:g} s: {len(self._grants)} of "
                f"{self.quotas.live.limit} are leased, {self._admission.waiting} requests wait; raise max_live or the "
                "wait's deadline",
                retryable=True,
            )
        if request.refusal:
            raise LeaseUnavailable(request.refusal, retryable=request.returns)

    def _enter(self, request: Request) -> None:
        if self._refusal:
            raise self._refused(self._refusal)
        self._stock.want(request.spec)
        self._admission.enter(request)
        self._settle()
        if self._admission.waits(request) and self._admission.waiting > self._limits.max_waiting:
            raise self._refused(
                f"{self._limits.max_waiting} requests wait for a sandbox already, and no more may (max_waiting); start "
                "fewer rollouts at once, or raise max_live",
                retryable=True,
            )

    def _refused(self, reason: str, *, retryable: bool = False) -> LeaseUnavailable:
        self._tally.refused += 1
        return LeaseUnavailable(reason, retryable=retryable)

    def _settle(self) -> None:
        """Grants what can be granted, refuses what never could be, and has warm ones made in places that are left, or
        destroyed where there are too few."""
        while (self._places > 0 or len(self._stock) > 0) and (request := self._admission.next()) is not None:
            self._grant(request)
        self.waits.look()
        for _ in range(len(self._grants) + len(self._stock) - self.quotas.live.limit):
            if (made := self._stock.take_least_wanted()) is not None:
                self._keeper.discard(made)
        if not self._refusal:
            self._keeper.fill(self._places)

    @property
    def _places(self) -> int:
        """Those that nothing lives in."""
        return self.quotas.live.limit - self._live()

    def _live(self) -> int:
        return len(self._grants) + len(self._stock) + self._keeper.busy

    def _wanted(self) -> int:
        """Sandboxes beyond those that live, of which the warm ones are for nobody."""
        return self._admission.waiting - len(self._stock)

    def _quota_of(self, limit: int | None, kind: str) -> Quota | None:
        """Of leases to whichever tenant, or of whichever spec, has most."""
        if limit is None:
            return None

        def waiting() -> int:
            return self._admission.waiting if self.waits.most_held(kind) >= quota.limit else 0

        quota = Quota(limit, lambda: self.waits.most_held(kind), waiting, self._settle)
        return quota

    def _grant(self, request: Request) -> None:
        """A place with a warm sandbox or, where none fits, with nothing in it."""
        grant = Grant(next(self._tokens), request.holder, request.spec, self._clock, self._limits.ttl_s, self._backend)
        warm = None if request.wants_files else self._stock.take(request.spec)
        if warm is not None:
            grant.give(warm)
        elif self._places < 1:
            grant.victim = self._stock.take_least_wanted()
        self._admission.grant(request)
        self._grants[request] = grant
        self._tally.granted += 1
        self._tally.wait_s += self._clock() - request.asked_at
        if request.decided is not None:
            request.decided.set()

    def _refuse(self, request: Request, reason: str) -> None:
        self._admission.leave(request)
        self._tally.refused += 1
        request.refusal = reason
        if request.decided is not None:
            request.decided.set()

    def _refuse_deadlock(self, request: Request) -> None:
        self._refuse(request, DEADLOCK.format(self._limits))

    def _refuse_all(self, reason: str) -> None:
        self._refusal = reason
        for request in self._admission.requests:
            self._refuse(request, reason)

    async def _equip(self, grant: Grant, files: Snapshot | None) -> None:
        """Makes its sandbox."""
        victim, grant.victim = grant.victim, None
        if victim is not None:
            await victim.destroy()
        made = await self._keeper.make(grant.spec, files)
        if grant.over:  # the pool was closed meanwhile
            await made.destroy()
            raise LeaseUnavailable(grant.over)
        grant.give(made)

    async def _end(self, request: Request) -> None:
        """Gives its place on once its sandboxes are destroyed, or the one is clear of processes; who comes second
        waits for the first."""
        grant = self._grants.get(request)
        if grant is None:
            return
        with anyio.CancelScope(shield=True):
            async with grant.ending:
                if self._grants.get(request) is not grant:
                    return
                reusable = grant.reusable and not self._refusal
                grant.over = grant.over or RETURNED
                try:
                    await self._clear(grant, reusable)
                finally:
                    self._give_back(request)

    async def _clear(self, grant: Grant, reusable: bool) -> None:
        await grant.end_fork()
        if grant.victim is not None:
            await grant.victim.destroy()
        if grant.made is not None and not (reusable and await grant.made.ended_processes()):
            await grant.made.destroy()
        elif grant.made is not None:
            self._keeper.recycle(grant.made)

    def _give_back(self, request: Request) -> None:
        grant = self._grants.pop(request)
        self._admission.give_back(request)
        self._tally.returned += not grant.expired
        if not self._grants:
            self._all_returned.set()
            self._all_returned = anyio.Event()
        self._settle()


@asynccontextmanager
async def open_pool(
    backend: SandboxBackend,
    limits: PoolLimits,
    *,
    warm: Mapping[SandboxSpec, int] | None = None,
    warm_each: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[Pool]:
    """A pool that keeps `warm` sandboxes of each spec ready, and `warm_each` of any other that was leased lately. On
    the way out all its sandboxes are destroyed.

    Raises:
        UsageError: more warm sandboxes than max_live.
    """
    stock = Stock(warm or {}, each=warm_each, most=limits.max_live)
    async with anyio.create_task_group() as tasks:
        pool = Pool(backend, limits, stock, tasks, clock)
        tasks.start_soon(tend, pool)
        try:
            yield pool
        finally:
            with anyio.CancelScope(shield=True):
                await pool.aclose()
        tasks.cancel_scope.cancel()


async def tend(pool: Pool) -> None:
    while True:
        await anyio.sleep(LOOK_S)
        pool.expire()
