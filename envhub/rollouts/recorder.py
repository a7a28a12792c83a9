"""Recorder: takes the events of a run without making anybody wait and commits them to the store in batches.

Invariants: events reach the store in the order of `emit`; `flush` returns only when all emitted before it are durable;
an event is never dropped: a store that fails ends the run. What is buffered is bounded by the live rollouts: a
group flushes before it is handed on.

A commit costs as much as some twenty events. So events that nobody waits for gather for a while, and where somebody
does, writing still takes a share of the time only: under load batches grow, and idle stores commit at once.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Protocol

import anyio

from envhub.contracts.events import Event, TurnRecorded
from envhub.contracts.store import TraceStore
from envhub.errors import StoreError, UsageError
from envhub.store import codec
from envhub.store.sealed import Sealed

WINDOW_S = 0.2  # how long events gather that nobody waits for
REST = 3.0  # times as long as the last commit took the next one waits, though somebody waits for it,
LONGEST_REST_S = 0.2  # but no longer than this: a disk that stalled once is not waited for twice
MAX_EVENTS = 8_000  # a transaction,
MAX_BYTES = 16 << 20  # or so many of tokens: it is encoded in memory


class Recording(Protocol):
    """What takes the events of rollouts."""

    def emit(self, event: Event) -> None:
        """Takes an event; durable after the next `flush`."""

    async def flush(self) -> None:
        """Waits until everything emitted so far is durable."""


class Recorder:
    """Open it with `open_recorder`."""

    def __init__(self, store: TraceStore) -> None:
        self.store = store
        self._buffer: list[Event] = []
        self._emitted = 0
        self._durable = 0
        self._failed: StoreError | None = None
        self._some = anyio.Event()  # there is something to commit
        self._awaited = anyio.Event()  # and somebody waits for it, or it is as much as a transaction takes
        self._committed = anyio.Event()
        self._rested_at = 0.0  # on the loop's clock
        self._listeners: list[Callable[[Event], None]] = []

    def emit(self, event: Event) -> None:
        """Takes an event; durable after the next `flush`."""
        self._buffer.append(event)
        self._emitted += 1
        if len(self._buffer) == 1:
            self._some.set()
        elif len(self._buffer) == MAX_EVENTS:
            self._awaited.set()
        for listener in self._listeners:
            listener(event)

    @property
    def backlog(self) -> int:
        """Events that are not durable yet."""
        return self._emitted - self._durable

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
            self._awaited.set()
            await self._committed.wait()

    async def write(self) -> None:
        """Commits what is emitted, batch after batch, until cancelled."""
        while True:
            await self._some.wait()
            await self._gather()
            await self._commit()

    async def drain(self) -> None:
        """Commits what is left."""
        while self._buffer and self._failed is None:
            await self._commit()

    async def _gather(self) -> None:
        """Lets more events come that one commit will do for."""
        began = anyio.current_time()
        await anyio.sleep_until(self._rested_at)
        with anyio.move_on_at(began + WINDOW_S):
            await self._awaited.wait()

    async def _commit(self) -> None:
        batch = self._take()
        # Shielded: a batch that left the buffer is either committed or the run has failed.
        with anyio.CancelScope(shield=True):
            began, durable = anyio.current_time(), 0
            try:
                await self.store.append(batch)
                durable = len(batch)
            finally:
                if not durable:
                    self._failed = StoreError("the store did not take what was recorded; the run ends")
                now = anyio.current_time()
                self._rested_at = now + min(REST * (now - began), LONGEST_REST_S)
                self._announce(durable)

    def _take(self) -> list[Event]:
        """The next batch, in order, at least one event long."""
        count, bytes = 0, 0
        for event in islice(self._buffer, MAX_EVENTS):
            if bytes >= MAX_BYTES:
                break
            bytes += _bytes(event)
            count += 1
        batch, self._buffer = self._buffer[:count], self._buffer[count:]
        if not self._buffer:
            self._some = anyio.Event()
        self._awaited = anyio.Event()
        return batch

    def _announce(self, count: int) -> None:
        self._durable += count
        self._committed.set()
        self._committed = anyio.Event()


def _bytes(event: Event) -> int:
    """Of its tokens and what is known of them, which alone can be much."""
    if type(event) is TurnRecorded:
        turn = event.turn
        tokens = turn.delta_ids.nbytes + turn.output_ids.nbytes + turn.logprobs.nbytes
        return tokens + sum(len(file.data) for file in turn.files) if turn.files else tokens
    return len(event.payload) if isinstance(event, Sealed) else 0


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
