"""Quotas: how a limit that counts for all workers together is divided between them, and moves to where work waits.

Invariants: what workers may hold of a limit, as far as anybody knows, is the limit at most; so a quota grows only by
what another worker has confirmed to have given up, or had when it died. Nobody who wants some is left without any for
ever: where a limit is smaller than the number of those who want it, they take turns.
"""

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from envhub.rollouts import wire

Who = TypeVar("Who", bound=Hashable)


@dataclass(slots=True)
class Part:
    """What one worker has of a limit."""

    bound: int  # it holds that many at most, as far as is known
    quota: int  # it was told last: below the bound while it gives some up
    demand: int = 0  # what it holds, and what it would if it could
    number: int = 0  # of the last allotment: what it reported before is out of date
    since: int = -1  # when it last came to have some, in the order of these
    confirmed: bool = True  # it knows of its quota, and what it has beyond that is held
    final: bool = False  # it was told that there is no more


@dataclass(slots=True)
class Limit(Generic[Who]):
    """One limit, and who has what of it."""

    total: int
    parts: dict[Who, Part] = field(default_factory=dict)
    turns: Iterator[int] = field(default_factory=count)

    @property
    def spare(self) -> int:
        """What nobody has; below 0 where it was lowered, until enough is given up."""
        return self.total - sum(part.bound for part in self.parts.values())

    def join(self, who: Who, workers: int) -> None:
        """One of so many, who gets its even part as far as there is some left."""
        bound = max(0, min(self.spare, -(-self.total // workers)))
        self.parts[who] = Part(bound, bound, since=next(self.turns) if bound else -1)

    def report(self, who: Who, usage: wire.Usage) -> None:
        part = self.parts[who]
        part.demand = usage.demand
        if usage.number == part.number:
            part.bound = max(part.quota, usage.bound)
            part.confirmed = True

    def moves(self) -> Iterator[Who]:
        """Those whose part is another one now, and who are to hear of it."""
        targets = self._targets()
        before = {who: (part.quota, part.final) for who, part in self.parts.items()}
        self._take_back(targets, self._lacking(targets))
        self._give(targets)
        for who, part in self.parts.items():
            part.confirmed = part.confirmed and part.quota == before[who][0]
        exhausted = all(part.confirmed or part.bound == part.quota for part in self.parts.values())
        for who, part in self.parts.items():
            part.final = part.demand > part.quota and exhausted
            if (part.quota, part.final) != before[who]:
                part.number += 1
                yield who

    def _targets(self) -> dict[Who, int]:
        """What each should have: the same as all others, but for what one does not want and another one does."""
        wanting = [who for who, part in self.parts.items() if part.demand > 0]
        if self.total < len(wanting):
            longest_without = sorted(wanting, key=lambda who: self.parts[who].since)[: self.total]
            return {who: int(who in longest_without) for who in self.parts}
        left, targets = self.total, {}
        for place, who in enumerate(sorted(self.parts, key=lambda who: self.parts[who].demand)):
            targets[who] = min(self.parts[who].demand, left // (len(self.parts) - place))
            left -= targets[who]
        more, rest = divmod(left, len(self.parts) or 1)
        return {who: target + more + (place < rest) for place, (who, target) in enumerate(targets.items())}

    def _lacking(self, targets: Mapping[Who, int]) -> int:
        """What must be given up beyond what is spare, and what is being given up already."""
        wanted = sum(max(0, min(part.demand, targets[who]) - part.bound) for who, part in self.parts.items())
        return wanted - self.spare - sum(part.bound - part.quota for part in self.parts.values())

    def _take_back(self, targets: Mapping[Who, int], lacking: int) -> None:
        for who, part in sorted(self.parts.items(), key=lambda item: targets[item[0]] - item[1].quota):
            taken = max(0, min(lacking, part.quota - targets[who]))
            part.quota -= taken
            lacking -= taken

    def _give(self, targets: Mapping[Who, int]) -> None:
        """To those first who have the least of what they should."""
        for who, part in sorted(self.parts.items(), key=lambda item: item[1].bound - targets[item[0]]):
            if part.demand > part.quota and (most := min(targets[who], part.bound + max(0, self.spare))) > part.quota:
                if not part.quota:
                    part.since = next(self.turns)
                part.quota = most
                part.bound = max(part.bound, most)


class Quotas(Generic[Who]):
    """All limits of a run, as its manager has them."""

    def __init__(self) -> None:
        self._limits: dict[str, Limit[Who]] = {}
        self._open: dict[Who, None] = {}
        self._changed: dict[str, None] = {}  # limits to look at

    @property
    def changed(self) -> bool:
        """Whether there is something to look at."""
        return bool(self._changed)

    def total(self, name: str) -> int | None:
        """Of that limit; None before it is known."""
        return self._limits[name].total if name in self._limits else None

    def resize(self, name: str, total: int) -> None:
        """Another limit from now on."""
        self._limits[name].total = total
        self._changed[name] = None

    def join(self, who: Who, totals: Mapping[str, int], workers: int) -> Iterator[wire.Allot]:
        """A new worker, one of so many at most, with nothing yet; what it gets."""
        self._open[who] = None
        for name, total in totals.items():
            self._known(name, total).join(who, workers)
        for name in totals:
            yield self._allotment(name, who)

    def leave(self, who: Who) -> None:
        """It is dead: what it had is for the others."""
        self._open.pop(who, None)
        for name, limit in self._limits.items():
            if limit.parts.pop(who, None) is not None:
                self._changed[name] = None

    def report(self, who: Who, usage: wire.Usage) -> None:
        """What a worker says of one of its quotas, be it that nobody knew of that limit before."""
        if who not in self._open:
            return
        limit = self._known(usage.name, usage.total)
        if who not in limit.parts:
            limit.parts[who] = Part(0, 0)
        limit.report(who, usage)
        self._changed[usage.name] = None

    def moves(self) -> Iterator[tuple[Who, wire.Allot]]:
        """What workers are to hear, in that order."""
        names, self._changed = self._changed, {}
        for name in names:
            for who in self._limits[name].moves():
                yield who, self._allotment(name, who)

    def _known(self, name: str, total: int) -> Limit[Who]:
        return self._limits.setdefault(name, Limit(total))

    def _allotment(self, name: str, who: Who) -> wire.Allot:
        part = self._limits[name].parts[who]
        return wire.Allot(name, part.quota, part.number, part.final)
