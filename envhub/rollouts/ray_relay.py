"""Relay: the actor that has a worker process beside it on its node, and passes bytes between it and the manager.

It travels to the node as a whole, so that it can say what is missing there: it needs Ray and the standard library.
"""

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import ray

BUFFER_BYTES = 1 << 20
STDERR = 2


class Relay:
    """Ray runs its methods on one loop. One manager calls them, each of `put` and `get` once at a time."""

    async def open(self, release: str, requires: tuple[str, ...]) -> tuple[str, int, str]:
        """Starts the worker for a manager of that release, with these packages. Returns in words where it is, its
        process id, and what is missing here; one of another release is started, and refuses."""
        node = ray.get_runtime_context().get_node_id()[:8]
        where = f"node {ray.util.get_node_ip_address()} ({socket.gethostname()}, Ray's {node})"
        if missing := _missing():
            return where, os.getpid(), missing
        from envhub.errors import UsageError  # which is there
        from envhub.rollouts.packages import environment_with

        try:
            variables = await asyncio.to_thread(environment_with, requires)
        except UsageError as error:
            return where, os.getpid(), str(error)
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs on this loop yet
                [sys.executable, "-m", "envhub.rollouts.worker", str(theirs.fileno()), str(os.getpid()), release],
                stdin=subprocess.DEVNULL,
                stdout=STDERR,
                env=variables,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours, limit=BUFFER_BYTES)
        self._passed_at = 0.0
        return where, self._process.pid, ""

    async def put(self, data: bytes) -> None:
        """Passes that on to the worker, as fast as it reads; nothing, where it is gone: who calls `get` finds out."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError:
            return

    async def get(self, gather_s: float) -> bytes:
        """What comes from the worker, so long after what came before that more may have come; b"" where it is gone."""
        loop = asyncio.get_running_loop()
        first = await self._reader.read(1)
        await asyncio.sleep(max(0.0, self._passed_at + gather_s - loop.time()))
        data = first + await self._reader.read(BUFFER_BYTES)
        self._passed_at = loop.time()
        return data

    async def end(self, grace_s: float) -> int:
        """The exit code of the worker, which is killed unless it has ended by then."""
        try:
            return await asyncio.to_thread(self._process.wait, grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)


def _missing() -> str:
    """What keeps a worker from running here."""
    if importlib.util.find_spec("envhub") is None:
        return f"has no envhub in {sys.executable}; install the manager's release of envhub-rl[run] there"
    try:
        version("envhub-rl")
    except PackageNotFoundError:
        return f"has an envhub that is not installed in {sys.executable}; install envhub-rl[run] there"
    return ""
