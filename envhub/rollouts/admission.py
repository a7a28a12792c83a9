"""Slots: which rollouts act now, under a limit of all and caps of some, and the lending that keeps parents from
starving their own children.

Invariants: at most `limit` slots are held, and of those that a cap counts at most as many as it says; a slot counts for
all its caps or for none; a rollout that waits for others holds none, so waiting can't deadlock; who comes back from
waiting goes first, then what an earlier process began, then children, then new members, so that started trees finish
first. Of one precedence the oldest policy version goes first, then the highest priority, and so on: see Line.

Slots are granted a few a tick of the loop: ten thousand rollouts that all began in one tick would stall it for seconds.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import count

from envhub.errors import UsageError
from envhub.rollouts import line
from envhub.rollouts.line import Cap, Line, Waiter

GRANTS_A_TICK = 16


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


class Slots:
    """The slots of one worker."""

    def __init__(self, limit: int, caps: Caps = NO_CAPS) -> None:
        if limit < 1:
            raise UsageError(f"the limit of running rollouts is {limit}; it must be at least 1")
        self.limit = limit
        self.free = limit  # below 0 once the limit was lowered below what is held
        self._caps = {(kind, name): Cap(cap) for kind, caps in caps.by_kind.items() for name, cap in caps.items()}
        self._line = Line()
        self._arrivals = count()
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
        """Waits for a slot. A slot granted to a waiter that is cancelled meanwhile goes on to the next."""
        # Who could go has gone: unless this tick has had its share, nobody in line comes before.
        if self.free > 0 and self._granted < GRANTS_A_TICK and not any(cap.full for cap in caps):
            self._take(caps)
            return
        rank = (precedence, claim.version, -claim.priority)
        waiter = Waiter(rank, claim.environment, (claim.submission, claim.member, next(self._arrivals)), caps)
        self._line.push(waiter)
        waits = True
        try:
            await waiter.granted.wait()
            waits = False
        finally:
            if waits and waiter.granted.is_set():
                self.release(caps)
            elif waits:
                self._line.discard(waiter)

    def release(self, caps: line.Caps) -> None:
        """Hands the slot to the first in line, or frees it."""
        self.free += 1
        for cap in caps:
            cap.used -= 1
        self._line.freed(caps)
        self._grant()

    def resize(self, limit: int) -> None:
        """Another limit from now on; who holds a slot keeps it."""
        self.free += limit - self.limit
        self.limit = limit
        self._grant()

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

    @asynccontextmanager
    async def hold(self, precedence: Precedence) -> AsyncIterator[None]:
        """Acts within; the slot is given back at the end, also where it is lent at that moment."""
        await self._take(precedence)
        try:
            yield
        finally:
            self._over = True
            self._give()

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[None]:
        """Waits for others within: the slot is theirs, until this rollout acts again."""
        self._lendings += 1
        self._give()
        try:
            yield
        finally:
            self._lendings -= 1

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Lends the slot within, and has it back at the end."""
        async with self.lend():
            yield
        await self.take_back()

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
