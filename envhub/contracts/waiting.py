"""Waits: who holds a place of something scarce, and who waits for one. Pools with the same holders share one.

A place is held up while its holder waits for another, or while a rollout that must end before the holder can waits for
one. A scope is what a limit counts. Full scopes whose places are all held up by wishes for places in just these scopes
are a deadlock: nobody would ever give one back. A scope is full once no other worker has a place to spare for it.
"""

from collections import Counter
from collections.abc import Callable, Container, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from envhub.contracts.ids import RolloutId
from envhub.contracts.quota import Quota

Scope: TypeAlias = tuple[str, Hashable]  # of what, and which of them


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a place: a rollout, all rollouts above it that can't end before it does, and whom it works for."""

    rollout_id: RolloutId
    ancestors: tuple[RolloutId, ...] = ()
    tenant: str = ""  # requests of one priority take turns between tenants (environments, say)
    priority: int = 0  # higher first, but children before others: what was begun is to finish


NOBODY = Holder(RolloutId(""))  # outside any rollout: waits for nobody, and nobody for it


@dataclass(slots=True, eq=False)
class Wish:
    """One wish for a place, from when it begins to wait until the place is given back."""

    holder: Holder
    scopes: Mapping[Scope, Quota]  # what it counts for -> how many may
    refuse: Callable[[], None]  # called once where it keeps up a deadlock, and waits no longer
    returns: bool = False  # it had a place before and is to have one again: others are refused before it

    def holds_up(self) -> tuple[RolloutId, ...]:
        """The rollouts that can't end while it waits."""
        return () if self.holder is NOBODY else (self.holder.rollout_id, *self.holder.ancestors)


class Waits:
    """The wishes of one worker's rollouts."""

    def __init__(self) -> None:
        self._waiting: dict[Wish, None] = {}  # the youngest last
        self._held: dict[Scope, dict[Wish, None]] = {}  # no empty ones
        self._held_up: Counter[RolloutId] = Counter()  # how many waiting wishes hold it up; no zeros

    def held(self, scope: Scope) -> int:
        """How many places of it are."""
        return len(self._held.get(scope, ()))

    def most_held(self, kind: str) -> int:
        """How many places are held of that scope of a kind of which most are."""
        return max((len(held) for scope, held in self._held.items() if scope[0] == kind), default=0)

    def wait(self, wish: Wish) -> None:
        self._waiting[wish] = None
        self._held_up.update(wish.holds_up())

    def leave(self, wish: Wish) -> None:
        """It waits no longer: it is granted, or given up. Idempotent."""
        if wish in self._waiting:
            del self._waiting[wish]
            for rollout_id in wish.holds_up():
                self._held_up[rollout_id] -= 1
                if not self._held_up[rollout_id]:
                    del self._held_up[rollout_id]

    def hold(self, wish: Wish) -> None:
        """It has its place."""
        self.leave(wish)
        for scope in wish.scopes:
            self._held.setdefault(scope, {})[wish] = None

    def give_back(self, wish: Wish) -> None:
        for scope in wish.scopes:
            del self._held[scope][wish]
            if not self._held[scope]:
                del self._held[scope]

    def look(self) -> None:
        """Refuses wishes until there is no deadlock; to be called whenever one may have arisen: after a wish began to
        wait or was granted."""
        while (wish := self._culprit()) is not None:
            self.leave(wish)
            wish.refuse()

    def _culprit(self) -> Wish | None:
        """The youngest wish of those that keep up a deadlock, one that returns only where there is no other."""
        if not self._waiting:
            return None
        scopes = {scope for scope in self._held if self._full(scope) and self._all_held_up(scope, self._held_up)}
        while scopes:  # mostly none is left by now
            blocked = [wish for wish in self._waiting if not scopes.isdisjoint(wish.scopes)]
            held_up = {id for wish in blocked for id in wish.holds_up()}
            still = {scope for scope in scopes if self._all_held_up(scope, held_up)}
            if still == scopes:
                holders = {held.holder.rollout_id for scope in scopes for held in self._held[scope]}
                culprits = (wish for wish in reversed(blocked) if holders.intersection(wish.holds_up()))
                return min(culprits, key=lambda wish: wish.returns)
            scopes = still
        return None

    def _full(self, scope: Scope) -> bool:
        held = self._held[scope]
        quota = next(iter(held)).scopes[scope]
        return quota.final and len(held) >= quota.limit

    def _all_held_up(self, scope: Scope, held_up: Container[RolloutId]) -> bool:
        return all(wish.holder.rollout_id in held_up for wish in self._held[scope])
