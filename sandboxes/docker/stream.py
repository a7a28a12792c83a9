"""The byte stream between the host and a container's main process: the agent's modules first, then its frames.

Docker Engine API, ContainerAttach, "Stream format": what a container writes comes in parts, each with a head of eight
bytes that names the stream and the size. What the host writes goes to stdin as it is.
"""

import asyncio
import socket
import struct
from functools import cache
from pathlib import Path

import anyio

from sandboxes.host.channel import Channel

HEAD = struct.Struct(">B3xI")  # stream, size
STDOUT = 1
MESSAGES_BYTES = 4096
INSIDE = Path(__file__).resolve().parents[1] / "inside"
BOOT_S = 20  # an engine that is killed while it starts a container forgets it, and nobody else would end it
STUB = """import os, select
boot = b""
while len(boot) < {size}:
    select.select([0], [], [], {patience_s})[0] or os._exit(1)
    boot += os.read(0, {size} - len(boot)) or os._exit(1)
exec(boot)
"""


class Unframed(asyncio.Protocol):
    """Passes what the container writes to stdout on to a channel, and keeps the start of what it writes to stderr."""

    def __init__(self, channel: Channel) -> None:
        self.messages = bytearray()
        self._channel = channel
        self._head = bytearray()
        self._stream = STDOUT
        self._left = 0  # of the part that is being read

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._channel.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.connection_lost(exc)

    def pause_writing(self) -> None:
        self._channel.pause_writing()

    def resume_writing(self) -> None:
        self._channel.resume_writing()

    def data_received(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._left:
                part, rest = rest[: self._left], rest[self._left :]
                self._left -= len(part)
                self._pass_on(part)
            else:
                missing = HEAD.size - len(self._head)
                self._head += rest[:missing]
                rest = rest[missing:]
                if len(self._head) == HEAD.size:
                    self._stream, self._left = HEAD.unpack(self._head)
                    self._head.clear()

    def _pass_on(self, part: memoryview) -> None:
        if self._stream == STDOUT:
            self._channel.data_received(bytes(part))
        else:
            self.messages += part[: MESSAGES_BYTES - len(self.messages)]


async def attach(end: socket.socket) -> tuple[Channel, Unframed]:
    """A channel to the agent, which is sent into the container first; takes `end` over."""
    channel = Channel()
    stream = Unframed(channel)
    with anyio.CancelScope(shield=True):
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_unix_connection(lambda: stream, sock=end)
    transport.write(agent_modules())
    return channel, stream


def boot_argv() -> list[str]:
    """The container's command line: short, for whoever lists processes inside reads it."""
    return ["python3", "-I", "-S", "-B", "-c", STUB.format(patience_s=BOOT_S, size=len(boot_source()))]


def boot_source() -> bytes:
    return (INSIDE / "boot.py").read_bytes()


@cache
def agent_modules() -> bytes:
    """What goes in first: boot.py, then what it takes: sources, for the image's Python may be of another version."""
    parts = [b"sandboxes", b""]
    for source in sorted(INSIDE.glob("*.py")):
        name = "sandboxes.inside" if source.stem == "__init__" else f"sandboxes.inside.{source.stem}"
        parts += [name.encode(), source.read_bytes()]
    modules = b"\0".join(parts)
    return boot_source() + b"%010d" % len(modules) + modules
