"""Threads: blocking calls off the loop, at most so many at once.

Invariants:
- A call that hangs keeps its place until it ends by itself, so hanging calls are bounded like all others.
- No thread outlives the process: they are daemons, which anyio's own worker threads are not.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Generic, TypeVar

from anyio import CapacityLimiter
from anyio.lowlevel import RunVar

T = TypeVar("T")


class Threads:
    """`total` places for blocking calls of one kind, per event loop."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._limiters: RunVar[CapacityLimiter] = RunVar(f"envhub.threads.{name}")

    async def run(self, function: Callable[[], T]) -> T:
        """What `function` returned or raised. A cancelled caller leaves at once; the thread ends when it ends."""
        return await (await self.start(function))

    async def start(self, function: Callable[[], T]) -> Awaitable[T]:
        """The call once it has a place and runs: waiting for a place is no part of the time that a call takes."""
        limiter = self._limiter()
        call = _Call(function, limiter)
        await limiter.acquire_on_behalf_of(call)
        call.start(f"envhub-{self._name}")
        return call.result

    def _limiter(self) -> CapacityLimiter:
        limiter = self._limiters.get(None)
        if limiter is None:
            limiter = CapacityLimiter(self._total)
            self._limiters.set(limiter)
        return limiter


class _Call(Generic[T]):
    """One blocking call. Its result belongs to the loop; the thread only posts to it."""

    def __init__(self, function: Callable[[], T], limiter: CapacityLimiter) -> None:
        self._function = function
        self._limiter = limiter
        self._loop = asyncio.get_running_loop()
        self.result: asyncio.Future[T] = self._loop.create_future()

    def start(self, name: str) -> None:
        thread = Thread(target=copy_context().run, args=(self._run,), name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads
            self._limiter.release_on_behalf_of(self)
            raise

    def _run(self) -> None:
        try:
            value = self._function()
        except BaseException as error:  # noqa: BLE001 - not handled here: carried to the caller, who raises it
            self._post(partial(self.result.set_exception, _bearable(error)))
        else:
            self._post(partial(self.result.set_result, value))

    def _post(self, settle: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._end, settle)

    def _end(self, settle: Callable[[], None]) -> None:
        self._limiter.release_on_behalf_of(self)
        if not self.result.done():
            settle()


def _bearable(error: BaseException) -> BaseException:
    """The error, or a RuntimeError in place of one that a future can't carry or that would end the loop."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")
