"""Floors and peers: what the same costs without envhub."""

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import SandboxSpec
from sandboxes.bubblewrap.arguments import (
    closed_root,
    filter_fd,
    find_bwrap,
    host_root,
    isolation,
    kernel_folders,
    own_places,
)
from sandboxes.interpreter import base_python

FORK_FLOOR = Path(__file__).with_name("fork_floor.py")
PYTHON_LOOP = "import sys\nfor line in sys.stdin:\n exec(line); print(flush=True)"


@asynccontextmanager
async def bare_lease(places: anyio.CapacityLimiter, ready: deque[object]) -> AsyncIterator[object]:
    """The least that a pool is: a bound, and something that is ready."""
    async with places:
        one = ready.popleft()
        try:
            yield one
        finally:
            ready.append(one)


class Asked:
    """A bare program that answers a line with a line, over pipes, until it is left."""

    def __init__(self, *argv: str) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def ask(self, line: bytes = b"\n") -> bytes:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line)
        return stdout.readline()


def forker() -> Asked:
    """See fork_floor.py."""
    return Asked(str(base_python()), "-I", "-S", "-B", str(FORK_FLOOR))


def bare_bash() -> Asked:
    return Asked("bash", "--norc", "--noprofile")


def bare_python() -> Asked:
    return Asked(str(base_python()), "-I", "-S", "-c", PYTHON_LOOP)


def bare_bwrap() -> float:
    """Seconds of `bwrap <the flags of a sandbox> python3 -c pass`."""
    calls, mode = filter_fd(), NetworkMode.NONE
    argv = [str(find_bwrap()), *isolation(calls, mode), *host_root(lambda folder: folder, mode), *kernel_folders()]
    argv += [*own_places(SandboxSpec(), fork=False), *closed_root(), "--", str(base_python()), "-c", "pass"]
    fds = [] if calls is None else [calls]
    try:
        began = time.perf_counter()
        subprocess.run(argv, pass_fds=fds, env={}, cwd="/", check=True)
        return time.perf_counter() - began
    finally:
        for fd in fds:
            os.close(fd)


def bare_true() -> float:
    """Seconds of /bin/true, started and waited for by this process."""
    began = time.perf_counter()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    return time.perf_counter() - began


def bare_copy(source: Path, target: Path) -> float:
    """Seconds of a copy of the files on the host."""
    began = time.perf_counter()
    shutil.copytree(source, target)
    took = time.perf_counter() - began
    shutil.rmtree(target)
    return took
