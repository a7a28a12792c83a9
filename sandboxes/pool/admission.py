"""Admission: which request gets a sandbox next, within the limits of a pool."""

from collections.abc import Callable, Iterator
from functools import partial

from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.waiting import Scope, Waits, Wish
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.queue import FairQueue, Request

ALL: Scope = ("sandboxes", "")


class Admission:
    """Requests that wait and those that were granted. `refuse` is called with one that keeps up a deadlock."""

    def __init__(self, limits: PoolLimits, waits: Waits, refuse: Callable[[Request], None]) -> None:
        self._limits = limits
        self._waits = waits
        self._refuse = refuse
        self._queue = FairQueue()
        self._wishes: dict[Request, Wish] = {}

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def requests(self) -> tuple[Request, ...]:
        """Those that wait, as they came."""
        return tuple(self._queue)

    def waits(self, request: Request) -> bool:
        return request in self._queue

    def enter(self, request: Request) -> None:
        scopes = dict(self._scopes(request))
        wish = Wish(request.holder, scopes, partial(self._refuse, request), request.returns)
        self._queue.push(request)
        self._wishes[request] = wish
        self._waits.wait(wish)

    def leave(self, request: Request) -> None:
        """It waits no longer, without a grant."""
        self._queue.remove(request)
        self._waits.leave(self._wishes.pop(request))

    def next(self) -> Request | None:
        """Whose turn it is, of those within their quotas."""
        return self._queue.next(self._may)

    def grant(self, request: Request) -> None:
        self._queue.take(request)
        self._waits.hold(self._wishes[request])

    def give_back(self, request: Request) -> None:
        """A granted one has ended."""
        self._waits.give_back(self._wishes.pop(request))

    def _may(self, tenant: str, spec: SandboxSpec) -> bool:
        return not any(self._waits.held(scope) >= limit for scope, limit in self._quotas(tenant, spec))

    def _scopes(self, request: Request) -> Iterator[tuple[Scope, int]]:
        yield ALL, self._limits.max_live
        yield from self._quotas(request.holder.tenant, request.spec)

    def _quotas(self, tenant: str, spec: SandboxSpec) -> Iterator[tuple[Scope, int]]:
        """The scopes of a tenant's request for that spec that have a limit, with it."""
        if self._limits.max_per_tenant is not None:
            yield ("sandboxes of tenant", tenant), self._limits.max_per_tenant
        if self._limits.max_per_spec is not None:
            yield ("sandboxes of spec", spec), self._limits.max_per_spec
