"""Posts: where worker processes are. The manager hires each for one life of a worker, and never knows what is below.

`LocalPosts` starts them on this machine; those of a Ray cluster are in ray_workers.py.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import anyio
from anyio.abc import ByteStream, Process, UNIXSocketStream

from envhub.rollouts.wire import release

LAST_BREATH_S = 1.0  # that a process has once its stream is closed
STDERR = 2


class Post(Protocol):
    """One worker process, as who sees to it has it."""

    @property
    def name(self) -> str:
        """Which process it is, and where, in words."""

    @property
    def pid(self) -> int:
        """On its machine."""

    @property
    def stream(self) -> ByteStream:
        """To its `work`."""

    def kill(self) -> None:
        """Ends it, if it has not ended yet; who reads its stream finds out."""

    @property
    def end(self) -> str:
        """How it ended, once it has."""


class Posts(Protocol):
    """Where worker processes can be had."""

    @property
    def path(self) -> list[str]:
        """Where Python finds this manager's modules there."""

    def open(self, index: int) -> AbstractAsyncContextManager[Post]:
        """A process, as worker `index`, that waits for its first message. On the way out it is killed, unless it has
        ended by then, and it is over only once it runs no more.

        Raises:
            UsageError: it can't be had there.
        """


@dataclass(frozen=True, slots=True)
class LocalPost:
    """A process of this machine."""

    process: Process
    stream: UNIXSocketStream

    @property
    def name(self) -> str:
        return f"worker process {self.pid}"

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()

    @property
    def end(self) -> str:
        return end_of(self.process.returncode or 0)


class LocalPosts:
    """This machine."""

    @property
    def path(self) -> list[str]:
        return list(sys.path)

    @asynccontextmanager
    async def open(self, index: int) -> AsyncIterator[LocalPost]:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await anyio.open_process(
                [sys.executable, "-m", "envhub.rollouts.worker", str(theirs.fileno()), str(os.getpid()), release()],
                stdin=subprocess.DEVNULL,
                stdout=STDERR,  # which a plug-in may print to: our own output may be data
                stderr=None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the manager, who ends its workers in order
            )
        try:
            async with await UNIXSocketStream.from_socket(ours) as stream:
                yield LocalPost(process, stream)
        finally:
            with anyio.CancelScope(shield=True):
                with anyio.move_on_after(LAST_BREATH_S):
                    await process.wait()  # so that it can say how it came to this
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()


def end_of(code: int) -> str:
    """How a process ended that left that exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
