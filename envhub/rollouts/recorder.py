"""Recorder: takes events from everywhere at no wait and commits them to the store in batches.

Invariants: events reach the store in the order of `emit`; `flush` returns only when all emitted before it are durable;
an event is never dropped: a store that fails ends the run. What is buffered is bounded by the live rollouts: a
group flushes before it is handed on.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from envhub.contracts.events import Event
from envhub.contracts.store import TraceStore
from envhub.errors import StoreError, UsageError
from envhub.store import codec

MAX_BATCH = 500  # events a transaction: enough to amortise it, few enough that encoding them doesn't hold the loop


class Recorder:
    """Open it with `open_recorder`."""

    def __init__(self, store: TraceStore) -> None:
        self.store = store
        self._buffer: list[Event] = []
        self._emitted = 0
        self._durable = 0
        self._failed: StoreError | None = None
        self._wake = anyio.Event()
        self._committed = anyio.Event()
        self._listeners: list[Callable[[Event], None]] = []

    def emit(self, event: Event) -> None:
        """Takes an event; durable after the next `flush`."""
        self._buffer.append(event)
        self._emitted += 1
        self._wake.set()
        for listener in self._listeners:
            listener(event)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Calls `listener` with every event from now on, on the loop: it must be quick and not raise."""
        self._listeners.append(listener)

    async def flush(self) -> None:
        """Waits until everything emitted so far is durable.

        Raises:
            StoreError: the store failed; the run can't go on.
        """
        target = self._emitted
        while self._durable < target:
            if self._failed is not None:
                raise self._failed
            await self._committed.wait()

    async def write(self) -> None:
        """Commits what is emitted, batch after batch, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._buffer:
                await self._commit()

    async def drain(self) -> None:
        """Commits what is left."""
        while self._buffer and self._failed is None:
            await self._commit()

    async def _commit(self) -> None:
        batch = self._buffer[:MAX_BATCH]
        del self._buffer[:MAX_BATCH]
        # Shielded: a batch that left the buffer is either committed or the run has failed.
        with anyio.CancelScope(shield=True):
            durable = 0
            try:
                await self.store.append(batch)
                durable = len(batch)
            finally:
                if not durable:
                    self._failed = StoreError("the store did not take what was recorded; the run ends")
                self._announce(durable)

    def _announce(self, count: int) -> None:
        self._durable += count
        self._committed.set()
        self._committed = anyio.Event()


def check_recordable(event: Event) -> None:
    """For what strangers fill in: found here it is their error, found by the store it would end the run.

    Raises:
        UsageError: it holds what is no data.
    """
    try:
        codec.encode(event)
    except StoreError as error:
        raise UsageError(str(error)) from error


@asynccontextmanager
async def open_recorder(store: TraceStore) -> AsyncIterator[Recorder]:
    """A recorder with its writer running; on the way out, everything emitted is durable."""
    recorder = Recorder(store)
    writing = anyio.CancelScope(shield=True)  # who is cancelled around us still flushes while it cleans up

    async def write() -> None:
        with writing:
            await recorder.write()

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            try:
                yield recorder
            finally:
                writing.cancel()
    finally:
        with anyio.CancelScope(shield=True):
            await recorder.drain()
