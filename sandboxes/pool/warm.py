"""The stock of warm sandboxes: made ahead of their lease, and the first to go when a place is needed."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Mapping

from envhub.contracts.sandbox import SandboxSpec
from envhub.errors import UsageError
from sandboxes.pool.made import Made

STALE = 0.5  # of its lifetime: who leases a warm sandbox should have most of it left


class Stock:
    """Warm sandboxes by spec. Of a spec that was named, as many as were named are wanted; of the specs that were
    leased lately, `each`."""

    def __init__(self, named: Mapping[SandboxSpec, int], *, each: int, most: int) -> None:
        """
        Raises:
            UsageError: a number below 0, or more than `most` together.
        """
        if min(each, *named.values(), 0) < 0 or max(each, sum(named.values())) > most:
            raise UsageError(
                f"warm sandboxes: {sum(named.values())} of named specs and {each} of each other one; they must be 0 or "
                f"more, and no more than the pool's max_live of {most}"
            )
        self._named = dict(named)
        self._each = each
        self._most = most
        self._ready: dict[SandboxSpec, deque[Made]] = {}
        self._lately: OrderedDict[SandboxSpec, None] = OrderedDict.fromkeys(named)  # the last wanted comes last
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Made]:
        return (made for ready in self._ready.values() for made in ready)

    @property
    def counts(self) -> dict[SandboxSpec, int]:
        """How many there are of each spec."""
        return {spec: len(ready) for spec, ready in self._ready.items()}

    def missing(self, coming: Counter[SandboxSpec]) -> Iterator[SandboxSpec]:
        """The specs to make one more of, the one wanted last first, when `coming` are being made already."""
        if not (self._named or self._each):
            return
        for spec in reversed(self._lately):
            wanted = self._named.get(spec, self._each)
            for _ in range(wanted - len(self._ready.get(spec, ())) - coming[spec]):
                yield spec

    def want(self, spec: SandboxSpec) -> None:
        """Notes that somebody asked for one."""
        self._lately[spec] = None
        self._lately.move_to_end(spec)
        if len(self._lately) > self._most + len(self._named):
            self._forget()

    def put(self, made: Made) -> None:
        self._ready.setdefault(made.spec, deque()).append(made)
        self._lately.setdefault(made.spec)
        self._count += 1

    def take(self, spec: SandboxSpec) -> Made | None:
        """One of that spec, the oldest."""
        ready = self._ready.get(spec)
        if ready is None:
            return None
        made = ready.popleft()
        if not ready:
            del self._ready[spec]
        self._count -= 1
        return made

    def take_least_wanted(self) -> Made | None:
        """One of the spec that was not asked for for the longest time."""
        return next((self.take(spec) for spec in self._lately if spec in self._ready), None)

    def take_stale(self, now: float) -> Iterator[Made]:
        for spec in tuple(self._ready):
            while (ready := self._ready.get(spec)) and now >= ready[0].made_at + STALE * spec.lifetime_s:
                made = self.take(spec)
                if made is not None:
                    yield made

    def _forget(self) -> None:
        """Drops the spec that nobody asked for for the longest time and that nothing is kept of."""
        for spec in self._lately:
            if spec not in self._named and spec not in self._ready:
                del self._lately[spec]
                return
