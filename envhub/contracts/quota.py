"""Quota: how much of a limit is for one worker. The limit counts for all workers; its quotas move between them."""

from collections.abc import Callable


class Quota:
    """How many at once. Where one process does everything it is the limit; else the manager says how much is here.

    `held` and `waiting` tell how many are, and how many more would be if there was room; `changed` is called when there
    may be. Whoever has a place keeps it where the quota becomes smaller.
    """

    __slots__ = ("_changed", "final", "held", "limit", "total", "waiting")

    def __init__(
        self, total: int, held: Callable[[], int], waiting: Callable[[], int], changed: Callable[[], None]
    ) -> None:
        self.total = self.limit = total
        self.final = True  # nobody else has any to spare
        self.held = held
        self.waiting = waiting
        self._changed = changed

    def resize(self, limit: int, *, final: bool = True) -> None:
        """That many from now on."""
        self.limit, self.final = limit, final
        self._changed()

    @property
    def bound(self) -> int:
        """How many are held at most, now and until it is made larger."""
        return max(self.limit, self.held())

    @property
    def demand(self) -> int:
        """How many would be held if there was room for all."""
        return self.held() + self.waiting()
