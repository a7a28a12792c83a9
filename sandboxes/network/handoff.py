"""The host's end of a hand-over: a one-shot unix socket that takes one listening socket out of a sandbox."""

import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from hmac import compare_digest

from envhub.errors import SandboxFault
from sandboxes.place import Sockets

CALLERS = 16  # connections that may wait; commands may come there too, and are turned away
Ask = Callable[[str, str, str], Awaitable[int]]  # folder as seen inside, name, token -> port, once all has been sent


async def take_over(sockets: Sockets, ask: Ask) -> tuple[socket.socket, int]:
    """A listening socket of the sandbox's own network namespace, and its port there.

    Commands can reach the unix socket while it exists. The token, which only the agent was told, tells the two apart.

    Raises:
        SandboxFault: nothing came.
    """
    name, token = secrets.token_hex(8), secrets.token_hex(16)
    folder = os.open(sockets.host, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX) as meeting:
            path = (
                f"/proc/self/fd/{folder}/{name}"  # a socket's address holds 107 bytes; the folder's path may be longer
            )
            meeting.bind(path)
            try:
                os.chmod(path, 0o666)  # noqa: PTH101 - the sandbox has a uid of its own
                meeting.listen(CALLERS)
                meeting.setblocking(False)
                port = await ask(sockets.inside, name, token)
            finally:
                os.unlink(path)  # noqa: PTH108
            return accept(meeting, token), port
    finally:
        os.close(folder)


def accept(meeting: socket.socket, token: str) -> socket.socket:
    """What the caller with the token brought, among those that wait."""
    with suppress(BlockingIOError):
        while True:
            caller, _ = meeting.accept()
            with closing(caller):
                brought = receive(caller, token)
            if brought is not None:
                return brought
    raise SandboxFault("the sandbox's agent opened a port but did not hand it over")


def receive(caller: socket.socket, token: str) -> socket.socket | None:
    caller.setblocking(False)
    try:
        said, fds, _, _ = socket.recv_fds(caller, len(token), 1)
    except OSError:
        return None
    if len(fds) == 1 and compare_digest(said, token.encode()):
        return socket.socket(fileno=fds[0])
    for fd in fds:
        os.close(fd)
    return None
