"""Posts: where worker processes are. The manager hires each for one life of a worker, and never knows what is below.

`LocalPosts` starts them on this machine; those of a Ray cluster are in ray_workers.py.
"""

import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import anyio
import anyio.to_thread
from anyio.abc import ByteStream, Process, UNIXSocketStream

from envhub.registry import Requirements
from envhub.rollouts.packages import environment_with
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

    async def leave(self) -> None:
        """Returns once the process runs no more: it is killed, unless it has ended by itself within LAST_BREATH_S."""

    @property
    def end(self) -> str:
        """How it ended, once it was left."""


class Posts(Protocol):
    """Where worker processes can be had."""

    @property
    def path(self) -> list[str]:
        """Where Python finds this manager's modules there."""

    async def hire(self, index: int, requires: Requirements) -> Post:
        """A process with these packages that waits for its first message, as worker `index` of those. Leave it.

        Raises:
            UsageError: it can't be had there.
            WorkersLost: it dies and dies before it can be had.
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

    async def leave(self) -> None:
        with anyio.move_on_after(LAST_BREATH_S):
            await self.process.wait()  # so that it can say how it came to this
        self.kill()
        await self.process.wait()

    @property
    def end(self) -> str:
        return end_of(self.process.returncode or 0)


class LocalPosts:
    """This machine."""

    @property
    def path(self) -> list[str]:
        return own_folders()

    async def hire(self, index: int, requires: Requirements) -> LocalPost:
        variables = await anyio.to_thread.run_sync(environment_with, requires, abandon_on_cancel=True)
        ours, theirs = socket.socketpair()
        with theirs:
            process = await anyio.open_process(
                [sys.executable, "-m", "envhub.rollouts.worker", str(theirs.fileno()), str(os.getpid()), release()],
                stdin=subprocess.DEVNULL,
                stdout=STDERR,  # which a plug-in may print to: our own output may be data
                stderr=None,
                env=variables,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for the manager, who ends its workers in order
            )
        return LocalPost(process, await UNIXSocketStream.from_socket(ours))


def own_folders() -> list[str]:
    """Where this process finds modules beside its Python and the packages of that."""
    return [folder for folder in sys.path if not folder.startswith((sys.prefix, sys.base_prefix))]


def end_of(code: int) -> str:
    """How a process ended that left that exit code."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
