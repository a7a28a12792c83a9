"""Room: how many groups a run may hold, which may change while it runs."""

import anyio
import anyio.lowlevel


class Room:
    """`size` places. Made smaller, it fills no place until enough are free; who has one keeps it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._changed = anyio.Event()

    async def acquire(self) -> None:
        await anyio.lowlevel.checkpoint()  # groups that were started before this one get a turn
        while self._taken >= self.size:
            await self._changed.wait()
        self._taken += 1

    def release(self) -> None:
        self._taken -= 1
        self._notify()

    def resize(self, size: int) -> None:
        self.size = size
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
