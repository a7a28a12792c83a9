"""Ctrl-C and SIGTERM: the first one ends the work in order, and the caller learns of it."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from envhub.cli.output import note
from envhub.monitor.acts import THIS_MACHINE, Acts

RECORD_S = 2.0


@dataclass(slots=True)
class Ending:
    """A scope that a signal cancels; its `cancel_called` tells of it afterwards."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    drain: Callable[[], Awaitable[None]] | None = None  # comes first, while there is time; None: there is nothing yet
    acts: Acts | None = None  # gets that there was a signal


@asynccontextmanager
async def interruptible(drain_s: float = 0.0) -> AsyncIterator[Ending]:
    """What the first signal ends: by its `drain`, which has so many seconds, and then by a cancellation. A second
    signal ends the drain."""
    ending = Ending()
    async with anyio.create_task_group() as tasks:
        with ending.scope:
            tasks.start_soon(_end_at_signal, ending, drain_s)
            yield ending
        tasks.cancel_scope.cancel()


async def _end_at_signal(ending: Ending, drain_s: float) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        heard = await anext(signals)
        if ending.acts:
            with anyio.move_on_after(RECORD_S):  # the run may be closing already
                await ending.acts.record(THIS_MACHINE, "signal", "stop", {"signal": heard.name})
        if drain_s and ending.drain:
            note(f"draining: what runs may finish for {drain_s:g} s … (again: at once)")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_at_signal, signals, tasks.cancel_scope)
                with anyio.move_on_after(drain_s):
                    await ending.drain()
                tasks.cancel_scope.cancel()
    note("ending: what runs is cancelled and recorded, every lease is returned … (again: at once)")
    ending.scope.cancel()


async def _cancel_at_signal(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()
