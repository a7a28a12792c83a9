"""EpisodeClock: the time that an episode has, which stands still while it waits for the platform.

A rollout must not run out of time because sandboxes or slots were scarce, or somebody paused the run: an outage would
become a reward.

Invariant: of a rollout that waits for children, time passes while it does for one of them.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio


class EpisodeClock:
    """Runs once, for `seconds` at most; `above` is the clock of the rollout that waits for this one."""

    def __init__(self, seconds: float, above: "EpisodeClock | None" = None) -> None:
        self.above = above
        self._left = seconds
        self._ends_at = math.inf  # while it stands still
        self._begun = False
        self._moves = False
        self._stops = 0
        self._children = 0  # that are waited for,
        self._moving = 0  # and of them, those whose clock moves
        self._scope = anyio.CancelScope()

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._left if self._ends_at == math.inf else self._ends_at - _now())

    @property
    def ran_out(self) -> bool:
        """It ended what ran within."""
        return self._scope.cancelled_caught

    def running(self) -> Self:
        """What is within is cancelled when the time is over."""
        return self

    def __enter__(self) -> None:
        self._begun = True
        self._look()
        self._scope.__enter__()

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        try:
            return bool(self._scope.__exit__(type, error, traceback))
        finally:
            self._begun = False
            self._look()

    def stopped(self) -> "_Stop":
        """Time within does not count, however many wait at once."""
        return _Stop(self)

    @contextmanager
    def child(self) -> Iterator[None]:
        """A child lives within, which has clocks of its own below this one."""
        self._children += 1
        self._look()
        try:
            yield
        finally:
            self._children -= 1
            self._look()

    def _look(self) -> None:
        """Starts or stops it, as things are now."""
        moves = self._begun and not self._stops and (self._moving > 0 or not self._children)
        if moves == self._moves:
            return
        self._moves = moves
        if moves:
            self._ends_at = self._scope.deadline = _now() + self._left
        else:
            self._left, self._ends_at = self.left, math.inf
            self._scope.deadline = math.inf
        if self.above is not None:
            self.above._moving += 1 if moves else -1
            self.above._look()


class _Stop:
    """One reason to stand still. A pause stops every clock at once, and a generator takes longer."""

    __slots__ = ("_clock",)

    def __init__(self, clock: EpisodeClock) -> None:
        self._clock = clock

    def __enter__(self) -> None:
        self._clock._stops += 1
        self._clock._look()

    def __exit__(self, *error: object) -> None:
        self._clock._stops -= 1
        self._clock._look()


def _now() -> float:
    """The loop's time. anyio.current_time() looks up first which library runs the loop: 1 us, four times a rollout."""
    return asyncio.get_running_loop().time()
