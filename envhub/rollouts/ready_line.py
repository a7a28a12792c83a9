"""ReadyLine: closed groups that wait for a consumer, first closed first.

Those of an earlier process are read from the store as their turn comes near: some are read ahead, so that one is read
while another one is on its way.
"""

from collections import deque
from dataclasses import dataclass

from envhub.contracts.delivery import ClosedGroup
from envhub.rollouts.stored_group import StoredGroup

READ_AHEAD = 3  # groups that anybody may have next


@dataclass(slots=True, eq=False)
class Ready:
    """A group in line."""

    group: ClosedGroup | StoredGroup
    deliveries: int = 0  # so far
    failed: int = 0  # of them
    failed_with: str = ""  # the consumer of the last one, if that failed


class ReadyLine:
    """All that wait."""

    def __init__(self) -> None:
        self._line: deque[Ready] = deque()

    def __len__(self) -> int:
        return len(self._line)

    def append(self, ready: Ready) -> None:
        self._line.append(ready)

    def remove(self, ready: Ready) -> None:
        self._line.remove(ready)

    def first(self) -> Ready | None:
        return self._line[0] if self._line else None

    def first_not_failed_with(self, consumer: str) -> Ready | None:
        return next((ready for ready in self._line if ready.failed_with != consumer), None)

    def next_to_read(self) -> tuple[Ready, StoredGroup] | None:
        """The first that is in the store still, unless enough that anybody may have stand before it."""
        ahead = 0
        for ready in self._line:
            if isinstance(ready.group, StoredGroup):
                return ready, ready.group
            ahead += not ready.failed_with
            if ahead == READ_AHEAD:
                break
        return None
