"""The relay: one thread of this process that serves the ports of all its sandboxes.

Invariants:
- What hostile code sends never runs on the loop of the sandbox's owner.
- Connections are bounded, those of a port and all together: descriptors are not for hostile code to use up. What comes
  above the bound waits in the kernel's queue of the port, which is bounded too.
- What goes wrong with one connection ends that one alone.
"""

import logging
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import anyio
from anyio.abc import SocketListener, SocketStream, TaskGroup, TaskStatus
from anyio.from_thread import BlockingPortal, BlockingPortalProvider

from envhub.errors import Boundary, Fault, boundary
from sandboxes.network.forward import Handler

CONNECTIONS = 128  # of one port
FILES_PER_CONNECTION = 8  # of those that this process may open; a connection itself takes two
RETRY_S = 0.1

log = logging.getLogger(__name__)


class Relay:
    """The thread, alive while somebody is in `portals`, and the connections that it still may serve."""

    def __init__(self) -> None:
        self.portals = BlockingPortalProvider()
        self.free = anyio.Semaphore(max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FILES_PER_CONNECTION))


class Served:
    """Ports that the relay serves until they end together. Its methods block for a moment: call them in a thread."""

    def __init__(self) -> None:
        self._kept = ExitStack()
        self._in_relay: tuple[BlockingPortal, TaskGroup] | None = None

    def add(self, listener: socket.socket, handler: Handler) -> None:
        if self._in_relay is None:
            portal = self._kept.enter_context(relay().portals)
            over, tasks = portal.start_task(hold_tasks)
            self._kept.callback(over.result)
            self._kept.callback(portal.call, tasks.cancel_scope.cancel)
            self._in_relay = portal, tasks
        portal, tasks = self._in_relay
        portal.call(start_serving, tasks, listener, handler)

    def end(self) -> None:
        """Closes them and their connections. Idempotent."""
        self._in_relay = None
        self._kept.close()


def relay() -> Relay:
    return relay_of(os.getpid())


@cache
def relay_of(_pid: int) -> Relay:
    """A forked process has none of its parent's threads, so each has a relay of its own."""
    return Relay()


async def hold_tasks(*, task_status: TaskStatus[TaskGroup]) -> None:
    """A task group that stays open until it is cancelled."""
    async with anyio.create_task_group() as tasks:
        task_status.started(tasks)
        await anyio.sleep_forever()


def start_serving(tasks: TaskGroup, listener: socket.socket, handler: Handler) -> None:
    tasks.start_soon(serve, listener, handler, relay().free)  # what start_soon returns, a portal would wait for


async def serve(end: socket.socket, handler: Handler, free: anyio.Semaphore) -> None:
    """Serves the connections of one port until cancelled."""
    free_here = anyio.Semaphore(CONNECTIONS)
    with contained("a port"):
        async with await SocketListener.from_socket(end) as listener, anyio.create_task_group() as tasks:
            while True:
                await free_here.acquire()
                connection = await accept(listener)
                tasks.start_soon(serve_one, connection, handler, free, free_here)


async def accept(listener: SocketListener) -> SocketStream:
    while True:
        try:
            return await listener.accept()
        except OSError:  # no descriptor is free, or who had connected has gone
            await anyio.sleep(RETRY_S)


async def serve_one(
    connection: SocketStream, handler: Handler, free: anyio.Semaphore, free_here: anyio.Semaphore
) -> None:
    try:
        with contained("a connection"):
            async with connection, free:
                await handler(connection)
    finally:
        free_here.release()


@contextmanager
def contained(what: str) -> Iterator[None]:
    """What goes wrong here goes no further: it is hostile code that is served."""
    try:
        with boundary(Boundary.SANDBOX):
            yield
    except Fault as fault:
        log.debug("%s of a sandbox ended: %s", what, fault)
