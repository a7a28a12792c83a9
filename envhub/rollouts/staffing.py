"""Staffing: how many workers a run should have, and which of their tries should be in another one."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from envhub.errors import UsageError

Who = TypeVar("Who")
SLACK = 2  # tries that one worker may have beyond its even part


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of the number of workers.

    Raises:
        UsageError: they leave none.
    """

    least: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise UsageError(
                f"{self.least} to {self.most} worker processes; there must be 1 at least, and the first number is the "
                "smaller one"
            )


class Staffing:
    """More as soon as there is more to do; fewer once there was less for a while."""

    def __init__(self, bounds: Bounds, looks: int) -> None:
        """`looks`: so many times in a row fewer must have been enough."""
        self._bounds = bounds
        self._lately = deque([bounds.least], maxlen=looks)

    def wanted(self, tries: int, max_running: int) -> int:
        """How many for so many tries, that act and that wait. As many as there may be share what may act at once, and
        each is to have no more than its part."""
        each = -(-max_running // self._bounds.most)
        self._lately.append(-(-tries // each))
        return min(max(self._bounds.least, *self._lately), self._bounds.most)


def surplus(tries: Mapping[Who, int]) -> dict[Who, int]:
    """What workers have beyond their even part, where another one has much less."""
    even = -(-sum(tries.values()) // max(1, len(tries)))
    if min(tries.values(), default=0) + SLACK >= even:
        return {}
    return {who: count - even for who, count in tries.items() if count > even}
