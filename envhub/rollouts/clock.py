"""EpisodeClock: the time that an episode has, which stands still while it waits for the platform.

A rollout must not run out of time because sandboxes or slots were scarce: that would turn an outage into a reward.
"""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class EpisodeClock:
    """Runs once, for `seconds` at most."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._ends_at = math.inf  # while it stands still
        self._stops = 0
        self._scope = anyio.CancelScope()

    @property
    def left(self) -> float:
        """Seconds, at least 0."""
        return max(0.0, self._left if self._ends_at == math.inf else self._ends_at - _now())

    @property
    def ran_out(self) -> bool:
        """It ended what ran within."""
        return self._scope.cancelled_caught

    def running(self) -> anyio.CancelScope:
        """What is within is cancelled when the time is over."""
        self._go()
        return self._scope

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time within does not count, however many wait at once."""
        self._stops += 1
        if self._stops == 1:
            self._left, self._ends_at = self.left, math.inf
            self._scope.deadline = math.inf
        try:
            yield
        finally:
            self._stops -= 1
            if not self._stops:
                self._go()

    def _go(self) -> None:
        self._ends_at = self._scope.deadline = _now() + self._left


def _now() -> float:
    """The loop's time. anyio.current_time() looks up first which library runs the loop: 1 us, four times a rollout."""
    return asyncio.get_running_loop().time()
