"""Ctrl-C and SIGTERM: the first one ends the work in order, and the caller learns of it."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from envhub.cli.output import note


@asynccontextmanager
async def interruptible() -> AsyncIterator[anyio.CancelScope]:
    """A scope that the first signal cancels; `cancel_called` tells of it afterwards."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_at_signal, scope)
            yield scope
        tasks.cancel_scope.cancel()


async def _cancel_at_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            note("ending: what runs is cancelled and recorded, every lease is returned … (again: at once)")
            scope.cancel()
            return
