"""Slots: which rollouts act now, under a limit of all and caps of some, and the lending that keeps parents from
starving their own children.

Invariants: at most `limit` slots are held, and of those that a cap counts at most as many as it says; a slot counts for
all its caps or for none; a rollout that waits for others holds none, so waiting can't deadlock; who comes back from
waiting goes first, then what an earlier process began, then children, then new members, so that started trees finish
first. Of one precedence the oldest policy version goes first, then the highest priority, and so on: see Line.

Slots are granted a few a tick of the loop: ten thousand rollouts that all began in one tick would stall it for seconds.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

from envhub.contracts.quota import Quota
from envhub.errors import UsageError
from envhub.rollouts import line
from envhub.rollouts.line import Cap, Line, Waiter

GRANTS_A_TICK = 16
RUNNING = "max_running"  # name of the quota of all slots


class Precedence(IntEnum):
    """Who goes first; the lower the sooner."""

    RETURNING = 0
    RESUMED = 1
    CHILD = 2
    MEMBER = 3


@dataclass(frozen=True, slots=True)
class Caps:
    """How many rollouts act at once in an environment, on an engine, for a policy; by name, no cap where none is given.

    Raises:
        UsageError: a cap below 1.
    """

    environments: Mapping[str, int] = field(default_factory=dict)
    engines: Mapping[str, int] = field(default_factory=dict)
    policies: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, caps in self.by_kind.items():
            for name, cap in caps.items():
                if cap < 1:
                    raise UsageError(f"the cap of {kind} '{name}' is {cap}; it must be at least 1, or left out")

    @property
    def by_kind(self) -> dict[str, Mapping[str, int]]:
        return {"environment": self.environments, "engine": self.engines, "policy": self.policies}


NO_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Claim:
    """What one rollout asks for slots with: what it counts as, and where the tree that it belongs to stands in line."""

    environment: str = ""
    engine: str = ""
    policy: str = ""
    version: int = 0  # the policy's newest when the tree was submitted
    priority: int = 0  # higher first
    submission: int = 0  # its number
    member: int = 0


class Withdrawn(Exception):
    """A new rollout that waited for its slot is to be somebody else's."""


class Slots:
    """The slots of one worker."""

    def __init__(self, limit: int, caps: Caps = NO_CAPS) -> None:
        if limit < 1:
            raise UsageError(f"the limit of running rollouts is {limit}; it must be at least 1")
        self.limit = limit
        self.free = limit  # below 0 once the limit was lowered below what is held
        self._caps = {(kind, name): Cap(cap) for kind, caps in caps.by_kind.items() for name, cap in caps.items()}
        self.quotas = {RUNNING: self._quota()}
        self.quotas |= {f"cap of {kind} {name}": self._quota_of(cap) for (kind, name), cap in self._caps.items()}
        self._line = Line()
        self._arrivals = count()
        self._new: dict[tuple[int, int], Waiter] = {}  # members that wait, by submission and member
        self._granted = 0  # in this tick of the loop

    @property
    def waiting(self) -> int:
        """How many rollouts wait for a slot."""
        return len(self._line)

    def caps(self, claim: Claim) -> line.Caps:
        """Those that a rollout counts for."""
        if not self._caps:  # mostly
            return ()
        names = (("environment", claim.environment), ("engine", claim.engine), ("policy", claim.policy))
        return tuple(self._caps[name] for name in names if name in self._caps)

    async def acquire(self, claim: Claim, caps: line.Caps, precedence: Precedence) -> None:
        """Waits for a slot. A slot granted to a waiter that is cancelled meanwhile goes on to the next.

        Raises:
            Withdrawn: it waited when `withdraw` was called.
        """
        # Who could go has gone: unless this tick has had its share, nobody in line comes before.
        if self.free > 0 and self._granted < GRANTS_A_TICK and not any(cap.full for cap in caps):
            self._take(caps)
            return
        rank = (precedence, claim.version, -claim.priority)
        waiter = Waiter(rank, claim.environment, (claim.submission, claim.member, next(self._arrivals)), caps)
        self._line.push(waiter)
        if precedence is Precedence.MEMBER:
            self._new[claim.submission, claim.member] = waiter
        waits = True
        try:
            await waiter.granted.wait()
            waits = False
        finally:
            if precedence is Precedence.MEMBER:
                self._new.pop((claim.submission, claim.member), None)
            if waits and waiter.granted.is_set() and not waiter.gone:
                self.release(caps)
            elif waits and not waiter.gone:
                self._line.discard(waiter)
        if waiter.gone:
            raise Withdrawn

    def withdraw(self, claim: Claim) -> None:
        """Takes a new member out of the line; nothing, where it is not in it."""
        waiter = self._new.pop((claim.submission, claim.member), None)
        if waiter is not None and not waiter.granted.is_set():
            self._line.discard(waiter)
            waiter.granted.set()

    def release(self, caps: line.Caps) -> None:
        """Hands the slot to the first in line, or frees it."""
        self.free += 1
        for cap in caps:
            cap.used -= 1
        self._line.freed(caps)
        self._grant()

    def resize(self, limit: int) -> None:
        """Another limit from now on; who holds a slot keeps it."""
        self.quotas[RUNNING].resize(limit)

    def _quota(self) -> Quota:
        def changed() -> None:
            self.free += quota.limit - self.limit
            self.limit = quota.limit
            self._grant()

        quota = Quota(
            self.limit,
            held=lambda: self.limit - self.free,
            waiting=lambda: 0 if self.free > 0 else len(self._line),  # else they wait for a cap
            changed=changed,
        )
        return quota

    def _quota_of(self, cap: Cap) -> Quota:
        def changed() -> None:
            cap.limit = quota.limit
            self._line.freed((cap,))
            self._grant()

        quota = Quota(cap.limit, held=lambda: cap.used, waiting=lambda: cap.waiting if cap.full else 0, changed=changed)
        return quota

    def _grant(self) -> None:
        while self.free > 0 and self._granted < GRANTS_A_TICK and (waiter := self._line.next()):
            self._take(waiter.caps)
            waiter.granted.set()

    def _take(self, caps: line.Caps) -> None:
        self.free -= 1
        for cap in caps:
            cap.used += 1
        if not self._granted:
            asyncio.get_running_loop().call_soon(self._tick)
        self._granted += 1

    def _tick(self) -> None:
        self._granted = 0
        self._grant()


class Slot:
    """One rollout's right to act; lent while it waits for children, however many of its tools wait at once."""

    def __init__(self, slots: Slots, claim: Claim = Claim()) -> None:
        self.claim = claim
        self.held = False
        self._slots = slots
        self._caps = slots.caps(claim)
        self._lendings = 0
        self._over = False  # nobody may take it any more

    def hold(self, precedence: Precedence) -> "_Holding":
        """Acts within; the slot is given back at the end, also where it is lent at that moment."""
        return _Holding(self, precedence)

    def lend(self) -> "_Lending":
        """Waits for others within: the slot is theirs, until this rollout acts again."""
        return _Lending(self, comes_back=False)

    def away(self) -> "_Lending":
        """Lends the slot within, and has it back at the end."""
        return _Lending(self, comes_back=True)

    async def take_back(self) -> None:
        """To be called before every action: waits for the slot where it was lent, unless a tool still lends it."""
        if not self.held and not self._lendings and not self._over:
            await self._take(Precedence.RETURNING)

    async def _take(self, precedence: Precedence) -> None:
        await self._slots.acquire(self.claim, self._caps, precedence)
        # Lent again, taken back by another action, or given up, while this one waited.
        if self.held or self._lendings or self._over:
            self._slots.release(self._caps)
        else:
            self.held = True

    def _give(self) -> None:
        if self.held:
            self.held = False
            self._slots.release(self._caps)


class _Holding:
    """A generator for it would take three times as long and as much memory, of every live rollout."""

    __slots__ = ("_precedence", "_slot")

    def __init__(self, slot: Slot, precedence: Precedence) -> None:
        self._slot = slot
        self._precedence = precedence

    async def __aenter__(self) -> None:
        await self._slot._take(self._precedence)

    async def __aexit__(self, *error: object) -> None:
        self._slot._over = True
        self._slot._give()


class _Lending:
    __slots__ = ("_comes_back", "_slot")

    def __init__(self, slot: Slot, *, comes_back: bool) -> None:
        self._slot = slot
        self._comes_back = comes_back

    async def __aenter__(self) -> None:
        self._slot._lendings += 1
        self._slot._give()

    async def __aexit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._slot._lendings -= 1
        if self._comes_back and kind is None:
            await self._slot.take_back()
