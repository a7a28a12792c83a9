"""Guard: whether a caller may do what it asks, now. One stands before all servers of a run."""

import time
from collections.abc import Callable
from hashlib import sha256
from hmac import compare_digest
from typing import Literal, TypeAlias

from envhub.contracts.access import Access, Caller, Role
from envhub.errors import RateExceeded, UnknownCaller, WrongRole

EVERYBODY = Access()
BURST_S = 10.0
LEAST_BURST = 10
MAX_KEPT = 10_000  # keys of a throttle, or wrong tokens, that are remembered

Act: TypeAlias = Literal["control", "submit", "session"]


class Throttle:
    """So many a second, for each key. What was not used gathers: ten seconds' worth, at least ten.

    A key has one number, the time at which all that it took will have been allowed for (the virtual scheduling of
    ITU-T I.371, A.1).
    """

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._interval_s = 1 / per_s
        self._window_s = (max(LEAST_BURST, per_s * BURST_S) - 1) / per_s
        self._clock = clock
        self._due: dict[str, float] = {}

    def wait_s(self, key: str) -> float:
        """Seconds until `take` gives 0 for that key."""
        return max(0.0, self._due.get(key, 0.0) - self._clock() - self._window_s)

    def take(self, key: str) -> float:
        """0: it is taken. Else nothing is, and so many seconds later there would be one."""
        if wait_s := self.wait_s(key):
            return wait_s
        now = self._clock()
        self._due[key] = max(self._due.pop(key, now), now) + self._interval_s
        if len(self._due) > MAX_KEPT:
            self._forget(now)
        return 0.0

    def _forget(self, now: float) -> None:
        """Keys that have all again, and the one that took least lately."""
        self._due = {key: due for key, due in self._due.items() if due > now}
        if len(self._due) > MAX_KEPT:
            del self._due[next(iter(self._due))]


class Guard:
    """Tokens and rates of a run's servers. Where there are no tokens, whoever reaches a server is an operator.

    Wrong tokens make their address wait, whatever it sends next; the same one sent again, as by a page that was left
    open, counts once. A token that was right from there before is let in meanwhile: else whoever shares an address with
    a trainer, behind a proxy say, could lock it out.
    """

    def __init__(self, access: Access = EVERYBODY, clock: Callable[[], float] = time.monotonic) -> None:
        self.access = access
        rates = access.rates
        self._throttles: dict[Act, Throttle] = {
            "control": Throttle(rates.control, clock),
            "submit": Throttle(rates.submit, clock),
            "session": Throttle(rates.session, clock),
        }
        self._failures = Throttle(rates.failure, clock)
        self._wrong: dict[bytes, None] = {}  # digests of what was sent, and from where
        self._right: dict[bytes, None] = {}

    @property
    def open(self) -> bool:
        """Whether nobody needs a token."""
        return not self.access.tokens

    def caller(self, sent: str, address: str) -> Caller:
        """Whose token that is.

        Raises:
            UnknownCaller: nobody's.
            RateExceeded: too many wrong ones came from that address.
        """
        if self.open:
            return Caller(Role.OPERATOR, address)
        given = sent.encode(errors="replace")
        # Each is compared, so that the time tells nothing of which one came close.
        found = [token for token in self.access.tokens if compare_digest(given, token.secret.encode())]
        digest = sha256(address.encode() + b"\n" + given).digest()
        wait_s = self._failures.wait_s(address)
        if wait_s and not (found and digest in self._right):
            raise RateExceeded("too many wrong tokens came from this address", wait_s)
        if found:
            _remember(self._right, digest)
            return Caller(found[0].role, address, found[0].name or found[0].role)
        if sent and _remember(self._wrong, digest):
            self._failures.take(address)
        raise UnknownCaller("wrong or missing token; send one of this run's as 'Authorization: Bearer TOKEN'")

    def demand(self, caller: Caller, needed: Role) -> None:
        """
        Raises:
            WrongRole: the caller's may not do what takes that one.
        """
        if caller.role is None or not caller.role.may(needed):
            raise WrongRole(f"this token is of the role {caller.role}, and this takes the role {needed}")

    def spend(self, act: Act, caller: Caller) -> None:
        """Counts one act.

        Raises:
            RateExceeded: it was one too many for now.
        """
        if wait_s := self._throttles[act].take(caller.who):
            rate = getattr(self.access.rates, act)
            raise RateExceeded(f"'{caller.who}' asks more often than the rate of {act}, {rate:g} a second", wait_s)


def _remember(seen: dict[bytes, None], digest: bytes) -> bool:
    """Whether it is new; of very many the oldest is forgotten."""
    new = digest not in seen
    seen[digest] = None
    if len(seen) > MAX_KEPT:
        del seen[next(iter(seen))]
    return new
