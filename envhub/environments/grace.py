"""Grace: how long code of a plug-in may go on after it was cancelled, before it is given up.

Invariants: who waits for such code waits `seconds` longer at most, and longer only while it is `busy` with what has
limits of its own; code that was given up is not cancelled again, and the end of the loop does not wait for it.

Task groups leave no task behind, rightly. But code that swallows its cancellation would keep a slot, sandboxes, a group
and the end of the run for ever. So it runs in a task of its own, which belongs to no task group: 10 us a call.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

import anyio

T = TypeVar("T")


class GivenUp(Exception):
    """The code went on for longer than its grace."""


class Holder(Protocol):
    """On whose behalf code runs."""

    @property
    def busy(self) -> bool:
        """Whether the code waits for what ends within limits of its own, after which it needs time to end as well."""


class Grace:
    """Runs code that may turn out not to obey."""

    def __init__(self, seconds: float, holder: Holder | None = None) -> None:
        self.seconds = seconds
        self._holder = holder

    async def run(self, function: Callable[[], Awaitable[T]]) -> T:
        """What `function` returns or raises; it is cancelled with whoever waits for it.

        Raises:
            GivenUp: it was cancelled and went on.
        """
        errand = _Errand(function)
        try:
            try:
                await errand.wait()
            except anyio.get_cancelled_exc_class():
                errand.scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._see_end(errand)
                errand.raise_failure()
                raise
            return errand.task.result()
        finally:
            del errand  # an error has this frame, and the errand's task the error: a cycle, of all that the code held

    async def _see_end(self, errand: "_Errand[T]") -> None:
        while not errand.task.done():
            busy = self._holder is not None and self._holder.busy
            with anyio.move_on_after(self.seconds):
                await errand.wait()
            if not errand.task.done() and not busy:
                _leave(errand.scope)
                raise GivenUp(f"it was cancelled and still goes on after {self.seconds:g} s")


class _Errand(Generic[T]):
    """One call in a task of its own."""

    def __init__(self, function: Callable[[], Awaitable[T]]) -> None:
        self.scope = anyio.CancelScope()
        self._waiter: asyncio.Future[None] | None = None  # of who waits for its end
        self.task = asyncio.get_running_loop().create_task(_obeying(self.scope, function))
        self.task.add_done_callback(self._end)

    async def wait(self) -> None:
        """Returns once it has ended. An Event would do as well, in four times the memory."""
        if not self.task.done():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def raise_failure(self) -> None:
        """Raises what ended it, unless that was its cancellation."""
        if not self.task.cancelled() and (error := self.task.exception()) is not None:
            raise error

    def _end(self, task: "asyncio.Task[T]") -> None:
        if not task.cancelled():
            task.exception()  # it is looked at where somebody still waits for it
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


async def _obeying(scope: anyio.CancelScope, function: Callable[[], Awaitable[T]]) -> T:
    with scope:
        return await function()
    raise asyncio.CancelledError  # its scope was cancelled, and it obeyed


def _leave(scope: Any) -> None:
    """Lets go of all that runs within a scope that was cancelled.

    anyio cancels it again in every tick of the loop until it ends, and asyncio waits for it when the loop ends. It has
    no public way to say that nobody wants it any more.
    """
    if scope._cancel_handle is not None:
        scope._cancel_handle.cancel()
    for task in scope._tasks:
        asyncio._unregister_task(task)
        task._log_destroy_pending = False
    for inner in scope._child_scopes:
        _leave(inner)
