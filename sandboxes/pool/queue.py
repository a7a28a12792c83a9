"""Who waits for a sandbox, in the order in which they get one: by rank, then tenants in turn, then as they came.

Invariants:
- A request is in the queue from `push` to its `remove` and at one place.
- A tenant that asks often delays another by one grant at most for each of the other's own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import TypeAlias

import anyio

from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.waiting import Holder

May: TypeAlias = Callable[[str, SandboxSpec], bool]  # whether that tenant may have one more of that spec now
Rank: TypeAlias = tuple[bool, bool, int]  # comes back from parking, is a child, priority: who was begun is to finish


@dataclass(slots=True, eq=False)
class Request:
    """One wish for a sandbox, uttered again after each parking."""

    spec: SandboxSpec
    holder: Holder
    returns: bool = False  # from parking
    asked_at: float = 0.0
    wants_files: bool = False
    number: int = 0  # in the order of asking
    decided: anyio.Event | None = None  # only who has to wait needs one
    refusal: str = ""

    @property
    def rank(self) -> Rank:
        return self.returns, bool(self.holder.ancestors), self.holder.priority


Line: TypeAlias = dict[SandboxSpec, OrderedDict[Request, None]]  # of one tenant: by spec, for one may be at its quota


class FairQueue:
    """Requests that wait. Every operation costs the same however many there are (but for tenants and specs)."""

    def __init__(self) -> None:
        self._lines: dict[Rank, OrderedDict[str, Line]] = {}  # the tenant whose turn is next comes first
        self._arrivals: OrderedDict[Request, None] = OrderedDict()
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._arrivals)

    def __iter__(self) -> Iterator[Request]:
        """As they came."""
        return iter(self._arrivals)

    def __reversed__(self) -> Iterator[Request]:
        """The youngest first."""
        return reversed(self._arrivals)

    def __contains__(self, request: Request) -> bool:
        return request in self._arrivals

    def push(self, request: Request) -> None:
        request.number = next(self._numbers)
        tenants = self._lines.setdefault(request.rank, OrderedDict())
        line = tenants.setdefault(request.holder.tenant, {})
        line.setdefault(request.spec, OrderedDict())[request] = None
        self._arrivals[request] = None

    def next(self, may: May) -> Request | None:
        """Whose turn it is, of those that may have one now."""
        for rank in sorted(self._lines, reverse=True):
            for tenant, line in self._lines[rank].items():
                first = [next(iter(requests)) for spec, requests in line.items() if may(tenant, spec)]
                if first:
                    return min(first, key=lambda request: request.number)
        return None

    def take(self, request: Request) -> None:
        """Removes a request because it is granted: the other tenants come first now."""
        tenants = self._lines[request.rank]
        tenants.move_to_end(request.holder.tenant)
        self.remove(request)

    def remove(self, request: Request) -> None:
        del self._arrivals[request]
        tenants = self._lines[request.rank]
        line = tenants[request.holder.tenant]
        del line[request.spec][request]
        if not line[request.spec]:
            del line[request.spec]
        if not line:
            del tenants[request.holder.tenant]
        if not tenants:
            del self._lines[request.rank]
