"""Admission: which request gets a sandbox next, within the quotas of a pool."""

from collections.abc import Callable, Iterator
from functools import partial

from envhub.contracts.quota import Quota
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.waiting import Scope, Waits, Wish
from sandboxes.pool.queue import FairQueue, Request
from sandboxes.pool.quotas import PoolQuotas

ALL: Scope = ("sandboxes", "")
TENANT, SPEC = "sandboxes of tenant", "sandboxes of spec"  # kinds of scopes


class Admission:
    """Requests that wait and those that were granted. `refuse` is called with one that keeps up a deadlock."""

    def __init__(self, quotas: PoolQuotas, waits: Waits, refuse: Callable[[Request], None]) -> None:
        self._quotas = quotas
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
        return not any(self._waits.held(scope) >= quota.limit for scope, quota in self._limits_of(tenant, spec))

    def _scopes(self, request: Request) -> Iterator[tuple[Scope, Quota]]:
        yield ALL, self._quotas.live
        yield from self._limits_of(request.holder.tenant, request.spec)

    def _limits_of(self, tenant: str, spec: SandboxSpec) -> Iterator[tuple[Scope, Quota]]:
        """The scopes of a tenant's request for that spec that have a quota, with it."""
        if self._quotas.per_tenant is not None:
            yield (TENANT, tenant), self._quotas.per_tenant
        if self._quotas.per_spec is not None:
            yield (SPEC, spec), self._quotas.per_spec
