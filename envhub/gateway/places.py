"""Bounds on what clients have a gateway do at once.

Places: of calls that run, with a bounded queue before it: a burst waits, and does not fail. Room: of the bytes that are
being received, which nobody may fill up by sending many bodies slowly, or that wait for an answer.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from envhub.gateway.errors import ApiError

PATIENCE_S = 20.0  # less than most clients wait for a first byte


class Places:
    """So many at once; as many again may wait, `patience_s` at most."""

    def __init__(self, most: int, of: str, *, patience_s: float = PATIENCE_S) -> None:
        self._most = most
        self._of = of
        self._patience_s = patience_s
        self._free = anyio.Semaphore(most)

    async def take(self) -> None:
        """Returns once there is a place, which `give_back` must follow.

        Raises:
            ApiError: 429, too many wait already, or none came free in time.
        """
        if self._free.value:  # nearly always
            self._free.acquire_nowait()
            return
        if self._free.statistics().tasks_waiting >= self._most:
            raise self._full()
        with anyio.move_on_after(self._patience_s) as patience:
            await self._free.acquire()
        if patience.cancelled_caught:
            raise self._full()

    def give_back(self) -> None:
        self._free.release()

    def _full(self) -> ApiError:
        message = f"{self._most} calls of {self._of} are in flight, which is its limit; wait for one to end"
        return ApiError(429, "rate_limit_exceeded", message, retryable=True)


class Room:
    """So many bytes of bodies at once; of them as many as `within` has room for."""

    def __init__(self, most: int, of: str, within: "Room | None" = None) -> None:
        self._most = most
        self._of = of
        self._within = within
        self._taken = 0

    def take(self, size: int) -> None:
        """
        Raises:
            ApiError: 429, there is no room for that much more.
        """
        if self._taken + size > self._most:
            message = f"the bodies that {self._of} sends now have {self._most} bytes, its limit; send fewer at once"
            raise ApiError(429, "rate_limit_exceeded", message, retryable=True)
        if self._within is not None:
            self._within.take(size)
        self._taken += size

    def give_back(self, size: int) -> None:
        if self._within is not None:
            self._within.give_back(size)
        self._taken -= size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """
        Raises:
            ApiError: as of take.
        """
        self.take(size)
        try:
            yield
        finally:
            self.give_back(size)
