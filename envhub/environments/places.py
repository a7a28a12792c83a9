"""Places: for instances of one environment, of which only so many may live; whoever waits gets one in turn."""

from collections import OrderedDict
from collections.abc import Callable

import anyio

from envhub.contracts.quota import Quota


class Places:
    """`changed` is called when their number changes, after those that there are were given out."""

    def __init__(self, total: int, changed: Callable[[], None]) -> None:
        self.quota = Quota(total, lambda: self._taken, lambda: len(self._line), self._resized)
        self._taken = 0
        self._line: OrderedDict[anyio.Event, None] = OrderedDict()
        self._changed = changed

    def take_now(self) -> bool:
        """Whether there was one."""
        free = self._taken < self.quota.limit and not self._line
        self._taken += free
        return free

    async def take(self) -> None:
        """Waits for one. One that was given to somebody who is cancelled meanwhile goes on to the next."""
        granted = anyio.Event()
        self._line[granted] = None
        try:
            await granted.wait()
        except BaseException:
            if granted in self._line:
                del self._line[granted]
            else:
                self.give_back()
            raise

    def give_back(self) -> None:
        self._taken -= 1
        self._give_out()

    def _give_out(self) -> None:
        while self._line and self._taken < self.quota.limit:
            granted, _ = self._line.popitem(last=False)
            self._taken += 1
            granted.set()

    def _resized(self) -> None:
        self._give_out()
        self._changed()
