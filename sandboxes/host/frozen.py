"""Processes of a sandbox stopped for a while, and its working directory opened for the host."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio

from envhub.errors import SandboxFault
from sandboxes.host.channel import Channel
from sandboxes.host.conversation import answer
from sandboxes.inside.frames import FREEZE, THAW

PATIENCE_S = 10.0


@asynccontextmanager
async def processes(channel: Channel) -> AsyncIterator[int | None]:
    """Within, all processes are stopped; a descriptor of the working directory, which is the caller's to close, or None
    where the channel passes none.

    The agent hands its folder out, and we copy: no descriptor of the host's files ever goes in.

    Raises:
        SandboxFault: the sandbox has died.
    """
    try:
        yield await stop(channel)
    finally:
        with anyio.CancelScope(shield=True), suppress(SandboxFault):
            await answer(channel.ask(THAW, []), "snapshot", patience_s=PATIENCE_S)


async def stop(channel: Channel) -> int | None:
    if not channel.passes_descriptors:
        await answer(channel.ask(FREEZE, []), "snapshot", patience_s=PATIENCE_S)
        return None
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            call = await channel.ask_with(theirs.fileno(), FREEZE, [])
        await answer(call, "snapshot", patience_s=PATIENCE_S)
        ours.setblocking(False)  # it is there by now
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    if not fds:
        raise SandboxFault("snapshot failed: the agent handed no folder over")
    return fds[0]
