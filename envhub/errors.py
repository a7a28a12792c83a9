"""The whole error tree, and `boundary`, the one place that says whose fault a failure is.

EnvhubError
├── UsageError (ValueError)              the caller asked for something that cannot work; raised before work starts
│   └── UnknownName (LookupError)        no such environment, engine, judge, ...
├── Truncated                            a rollout met a limit; its outcome is truncated(reason), not a failure
├── Fault                                a failure inside a rollout, attributed to one Boundary
│   ├── EngineFault                      the engine failed or answered something that may not be recorded
│   ├── ToolFault                        a tool could not be run at all (its own mistakes are observations)
│   ├── SandboxFault
│   │   └── LeaseUnavailable             a lease that could never be granted, or not before its deadline
│   └── JudgeFault                       no valid score
├── AccessRefused                        a server does not do what a caller asks
│   ├── UnknownCaller                    without a token of this run's
│   ├── WrongRole                        with a token that does not open this
│   └── RateExceeded                     sooner than its rate allows
├── LeaseLost                            a delivery's lease expired or belongs to somebody else
├── UpdateFailed                         new weights are not live; generation goes on as before
├── WorkersLost                          worker processes die faster than they do anything
├── FeedUnavailable (ConnectionError)    the feed did not answer for as long as its client waits
└── StoreError                           the trace store refused
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import SequenceMatcher
from enum import StrEnum

MANY = 20  # names: more are not listed where something else shows them


class Boundary(StrEnum):
    """Where a failure arose."""

    POLICY = "policy"
    AGENT = "agent"
    ENGINE = "engine"
    GATEWAY = "gateway"
    TOOL = "tool"
    SANDBOX = "sandbox"
    JUDGE = "judge"
    ENVIRONMENT = "environment"
    OPERATOR = "operator"


class EnvhubError(Exception):
    """Every error of envhub."""


class UsageError(EnvhubError, ValueError):
    """The request cannot work; the message gives the value, the rule and the way out."""


class UnknownName(UsageError, LookupError):
    """Nothing of that kind is registered under that name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], hint: str = "") -> "UnknownName":
        """An error that offers the nearest names, or all where none is near; the command `hint` shows them as well."""
        names = sorted(known)
        near = _nearest(name, names)
        offer = f"did you mean {' or '.join(near)}?" if near else f"registered: {', '.join(names) or 'none'}"
        if hint:
            offer = f"see `{hint}`" if not near and len(names) > MANY else f"{offer} (see `{hint}`)"
        return cls(f"no {kind} '{name}'; {offer}")


def _nearest(name: str, names: Iterable[str]) -> list[str]:
    """What may have been meant: the name most like it, and those that are nearly as much so."""
    alike = {known: SequenceMatcher(None, known, name).ratio() for known in names}
    least = max(0.5, max(alike.values(), default=0.0) - 0.1)
    return sorted((known for known in alike if alike[known] >= least), key=lambda known: -alike[known])[:3]


class Truncated(EnvhubError):
    """A limit ended the rollout; `args[0]` is the reason: length, turns, context, deadline, budget."""

    @property
    def reason(self) -> str:
        return str(self.args[0])


class Fault(EnvhubError):
    """A failure inside a rollout. Never becomes a reward."""

    default_boundary = Boundary.AGENT
    default_retryable = False

    def __init__(self, message: str, boundary: Boundary | None = None, retryable: bool | None = None) -> None:
        super().__init__(message, boundary, retryable)
        self.message = message
        self.boundary = self.default_boundary if boundary is None else boundary
        self.retryable = self.default_retryable if retryable is None else retryable

    def __str__(self) -> str:
        return self.message


class EngineFault(Fault):
    default_boundary = Boundary.ENGINE
    default_retryable = True


class ToolFault(Fault):
    default_boundary = Boundary.TOOL


class SandboxFault(Fault):
    default_boundary = Boundary.SANDBOX
    default_retryable = True


class LeaseUnavailable(SandboxFault):
    default_retryable = False


class JudgeFault(Fault):
    default_boundary = Boundary.JUDGE


class AccessRefused(EnvhubError):
    """A server of a run does not do what it was asked, because of who asked, or how often."""


class UnknownCaller(AccessRefused):
    """No token, or none that the server knows."""


class WrongRole(AccessRefused):
    """The token's role does not open this."""


class RateExceeded(AccessRefused):
    """Too often; `retry_after_s` later it would be done."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s)
        self.message = message
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"{self.message}; try again in {self.retry_after_s:.1f} s"


class LeaseLost(EnvhubError):
    """The lease expired, was returned, or was given to another consumer since."""


class UpdateFailed(EnvhubError):
    """New weights did not become live, or a server did not change its policy; generation goes on without."""


class WorkersLost(EnvhubError):
    """A worker process died again and again before it had finished anything."""


class FeedUnavailable(EnvhubError, ConnectionError):
    """The feed did not answer, or not again, within the time that its client keeps trying."""


class StoreError(EnvhubError):
    """The trace store is of another version, or was asked for what it does not hold."""


class boundary:
    """Turns whatever escapes into a Fault of `where`; what an inner boundary attributed passes unchanged."""

    __slots__ = ("_retryable", "_where")

    def __init__(self, where: Boundary, *, retryable: bool = False) -> None:
        self._where = where
        self._retryable = retryable

    def __enter__(self) -> None:
        """What is within is attributed."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, (Fault, Truncated)):
            return
        if isinstance(error, SystemExit):  # a plug-in may not end the process
            raise Fault(f"SystemExit: {error}", self._where, self._retryable) from error
        if isinstance(error, Exception):
            raise _attributed(error) or Fault(_describe(error), self._where, self._retryable) from error


def _attributed(error: BaseException) -> Fault | Truncated | None:
    """The first Fault, else the first Truncated, that a task group wrapped."""
    found = list(leaves(error)) if isinstance(error, BaseExceptionGroup) else []
    faults: list[Fault | Truncated] = [leaf for leaf in found if isinstance(leaf, Fault)]
    limits: list[Fault | Truncated] = [leaf for leaf in found if isinstance(leaf, Truncated)]
    return next(iter([*faults, *limits]), None)


@contextmanager
def bare_usage_errors() -> Iterator[None]:
    """Lets what the caller asked for in vain out of the groups that task groups put around it."""
    try:
        yield
    except BaseExceptionGroup as group:
        first, *others = leaves(group)
        if isinstance(first, UsageError) and all(str(other) == str(first) for other in others):
            raise first from group
        raise


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions of a group, however deep; one that is no group is its own."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for inner in error.exceptions:
        yield from leaves(inner)


def _describe(error: BaseException) -> str:
    error = next(leaves(error))
    return str(error) if isinstance(error, EnvhubError) else f"{type(error).__name__}: {error}"
