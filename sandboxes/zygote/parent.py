"""ZygoteParent: the warmed process that sandboxes are forked from, as the host starts it, asks it and loses it."""

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio

from envhub.errors import SandboxFault
from sandboxes.inside.frames import FAILED, Decoder, encode
from sandboxes.inside.zygote_request import FORK, PLAN, Plan, Request
from sandboxes.interpreter import base_python
from sandboxes.owner import LABEL
from sandboxes.spawner import AgentProcess, Launch, Spawner
from sandboxes.state import state

MODULES = Path(__file__).resolve().parents[2]
# The folder of our modules is a descriptor: every sandbox can read this command line.
BOOT = "import sys; sys.path.append(sys.argv[1]); from sandboxes.inside.zygote import main; main()"
ANSWER_S = 10.0
ANSWER_BYTES = 4096


class ZygoteParent:
    """Forks one child at a time. Started by the first fork, and again when it has died; its children die with it."""

    def __init__(self, spawner: Spawner, plan: Callable[[], Plan]) -> None:
        self._spawner = spawner
        self._plan = plan
        self._process: AgentProcess | None = None
        self._turn = anyio.Lock()

    async def fork(self, request: Request, fds: Sequence[int]) -> int:
        """A pidfd of the new child, which holds copies of `fds`.

        Raises:
            SandboxFault: it could not be made.
        """
        async with self._turn:
            with anyio.CancelScope(shield=True):  # a child that nobody knows would live on
                if self._process is None or has_closed(self._process.socket):
                    await self._end()
                    self._process = await self._spawner.start(launch)
                    self._process.socket.setblocking(False)
                    await self._ask(self._process, PLAN, self._plan().encode())
                (pidfd,) = await self._ask(self._process, FORK, request.encode(), fds)
        return pidfd

    async def aclose(self) -> None:
        """Ends it and all its children. Idempotent."""
        async with self._turn:
            with anyio.CancelScope(shield=True):
                await self._end()

    async def _ask(self, process: AgentProcess, kind: int, body: bytes, fds: Sequence[int] = ()) -> list[int]:
        """Sends a frame and descriptors; the descriptors of the answer. A zygote that gives none is ended.

        Raises:
            SandboxFault: it gave none, or says that it could not do that.
        """
        try:
            with anyio.fail_after(ANSWER_S):
                data, descriptors = await exchange(process.socket, encode(kind, 0, [], body), fds)
        except (ConnectionError, TimeoutError) as error:
            messages = process.messages()
            await self._end()
            raise SandboxFault(f"the zygote died: {messages or error or 'it gave no answer'}") from error
        ((answered, _, fields, _),) = Decoder().feed(data)
        if answered == FAILED:
            raise SandboxFault(f"cannot fork a sandbox: {os.fsdecode(fields[0])}")
        return descriptors

    async def _end(self) -> None:
        if self._process:
            process, self._process = self._process, None
            await process.end()


def launch() -> Launch:
    modules = os.open(MODULES, os.O_PATH | os.O_DIRECTORY)
    argv = (str(base_python()), "-I", "-S", "-B", "-c", BOOT, f"/proc/self/fd/{modules}")
    return Launch(argv, str(base_python()), fds=(modules,), env={LABEL: f"{state().owner}.zygote"})


async def exchange(end: socket.socket, frame: bytes, fds: Sequence[int]) -> tuple[bytes, list[int]]:
    """Sends a frame with descriptors; a frame and descriptors that come back.

    Raises:
        ConnectionError: the other end is closed.
    """
    sent = socket.send_fds(end, [frame], fds)
    while sent < len(frame):
        await anyio.wait_writable(end)
        sent += end.send(frame[sent:])
    await anyio.wait_readable(end)
    data, descriptors, _, _ = socket.recv_fds(end, ANSWER_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
    if not data:
        raise ConnectionResetError("it closed its socket")
    return data, descriptors


def has_closed(end: socket.socket) -> bool:
    """Whether the other end is closed; nothing is to be read otherwise."""
    try:
        return not end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
