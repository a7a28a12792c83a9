"""The Sandbox that all back ends make: a place on the host, and the agent in it that is asked over a channel."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from envhub.contracts.command import ExecRequest, ExecResult, Output
from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import SandboxStats, Snapshot
from envhub.contracts.session import Interpreter
from envhub.errors import SandboxFault, UsageError
from sandboxes.archive import Archive, parts_in
from sandboxes.host import frozen
from sandboxes.host.channel import Channel
from sandboxes.host.conversation import answer, from_thread, parts_of
from sandboxes.host.downloads import Download
from sandboxes.host.duties import MB, Duties
from sandboxes.host.requests import KILL_S, Requests
from sandboxes.host.session import AgentSession
from sandboxes.host.uploads import Source
from sandboxes.inside.frames import (
    CLEAR,
    END,
    ENV,
    FORWARD,
    PART,
    READ,
    SETUP,
    STATS,
    WRITE,
)
from sandboxes.inside.trees import TooLarge, Unfit
from sandboxes.layers import Layer, own
from sandboxes.network.ports import Ports
from sandboxes.place import Place
from sandboxes.threads import in_thread

START_S = 10.0
CLOSE_S = 15.0


class AgentSandbox:
    """A live sandbox.

    A command that cannot be started ends with 127 (no such program) or 126, and says why on stderr; so does one that
    the sandbox's memory limit killed (-9). Processes that a command leaves behind live on until end_processes()
    or close().
    """

    def __init__(self, channel: Channel, place: Place, alive: "set[AgentSandbox]") -> None:
        self._channel = channel
        self._requests = Requests(channel, self.close)
        self._place = place
        self._alive = alive
        self._ports = Ports(place.sockets, self._open_port)
        lifetime_s = place.spec.lifetime_s
        over = partial(channel.close, f"the sandbox has outlived its lifetime_s of {lifetime_s:g}")
        self._end = asyncio.get_running_loop().call_later(lifetime_s, over)  # the agent ends itself then, too
        alive.add(self)

    @property
    def id(self) -> str:
        return self._place.id

    async def exec(self, request: ExecRequest) -> ExecResult:
        return await self._requests.exec(request)

    def stream(self, request: ExecRequest) -> AsyncGenerator[Output | ExecResult, None]:
        return self._requests.stream(request)

    async def session(self, interpreter: Interpreter) -> AgentSession:
        return await AgentSession.open(self._channel, interpreter, self._requests.run)

    async def write(self, path: str, data: bytes) -> None:
        rest = parts_of(data[PART:]) if len(data) > PART else None
        await self._requests.transfer(WRITE, f"write to '{path}'", [path], data[:PART], rest)

    async def read(self, path: str, *, max_bytes: int = MB) -> bytes:
        _, parts = await self._requests.transfer(READ, f"read of '{path}'", [path, str(max_bytes)])
        return b"".join(frame.body for frame in parts)

    async def upload(self, source: Path, path: str = "") -> None:
        checked = await in_thread(lambda: Source(source, self._place.spec.disk_mb * MB))
        try:
            await self._requests.unpack(f"upload of '{source}'", path, from_thread(checked.parts()))
        finally:
            checked.close()

    async def download(self, path: str, target: Path, *, max_bytes: int = 1 << 28) -> None:
        what = f"download of '{path}'"
        copy = await in_thread(lambda: Download(target, max_bytes))
        try:
            folder = await self._requests.pack(what, path, copy.feed)
            await in_thread(lambda: copy.finish(folder=folder))
        except TooLarge:
            raise UsageError(f"{what} failed: it is over max_bytes {max_bytes}; raise it, or download less") from None
        except (OSError, Unfit) as error:
            raise SandboxFault(f"{what} failed: {error}", retryable=False) from error
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(copy.close)

    async def snapshot(self) -> Layer:
        layer = await in_thread(lambda: Layer(self._place.backend, self._place.uid))
        try:
            async with frozen.processes(self._channel) as workdir:
                if workdir is None:
                    await self._stream_into(layer)
                else:
                    await in_thread(lambda: layer.fill(workdir))
        except (OSError, Unfit) as error:
            await layer.close()
            raise SandboxFault(f"snapshot failed: {error}", retryable=False) from error
        except BaseException:
            with anyio.CancelScope(shield=True):
                await layer.close()
            raise
        return layer

    async def restore(self, snapshot: Snapshot) -> None:
        layer = own(snapshot, self._place.backend)
        layer.hold()
        try:
            await self.end_processes()
            await self._requests.transfer(CLEAR, "restore", [])
            await self.fill(layer)
        finally:
            with anyio.CancelScope(shield=True):
                await layer.release()

    async def save(self, file: Path) -> int:
        archive = await in_thread(lambda: Archive(file))
        try:
            async with frozen.processes(self._channel) as workdir:
                if workdir is None:
                    await self._requests.pack("save", "", archive.feed)
                else:
                    await in_thread(lambda: archive.fill(workdir))
            await in_thread(archive.finish)
        except (OSError, Unfit) as error:
            raise SandboxFault(f"save failed: {error}", retryable=False) from error
        finally:
            with anyio.CancelScope(shield=True):
                await in_thread(archive.close)
        return archive.size_bytes

    async def load(self, file: Path) -> None:
        parts = parts_in(file)
        await in_thread(lambda: next(parts))
        await self.end_processes()
        await self._requests.transfer(CLEAR, "load", [])
        await self._requests.unpack("load", "", from_thread(parts))

    async def fill(self, layer: Layer) -> None:
        """Copies a snapshot's files into the working directory, beside what is there."""
        await self._requests.unpack("restore", "", from_thread(layer.parts()))

    async def forward(self, host: str, port: int) -> str:
        return await self._ports.forward(self._place.spec.network.mode, host, port)

    async def stats(self) -> SandboxStats:
        last, _ = await self._requests.transfer(STATS, "stats", [])
        memory, pids, cpu_s, disk = last.fields
        counted = self._place.stats() or SandboxStats(int(memory), int(pids), float(cpu_s), 0)
        return replace(counted, pids=int(pids), disk_bytes=int(disk))  # the host would count our processes too

    async def end_processes(self) -> None:
        try:
            with anyio.fail_after(KILL_S):
                await answer(self._channel.ask(END, []), "end of processes")
        except TimeoutError:
            await self.close()
            raise SandboxFault("what commands left running could not be ended; the sandbox was destroyed") from None

    async def close(self) -> None:
        self._end.cancel()
        with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_S):
            self._channel.close()
            await self._ports.aclose()
            await self._place.end()
            self._alive.discard(self)

    async def get_ready(self, duties: Duties) -> None:
        """Tells the agent its duties, and commands where their proxy is.

        Raises:
            SandboxFault: it has died.
        """
        await answer(self._channel.ask(SETUP, duties.fields(self._place)), "start")
        network = self._place.spec.network
        if network.mode is NetworkMode.HOSTS:
            proxy = await self._ports.proxy(network.hosts)
            env = [f"{name}={value}" for name, value in proxy.items() if name not in self._place.spec.env]
            await self._requests.transfer(ENV, "start", env)

    async def _stream_into(self, layer: Layer) -> None:
        unpacker = layer.unpacker()
        try:
            await self._requests.pack("snapshot", "", unpacker.feed)
            await in_thread(unpacker.finish)
            await in_thread(layer.hand_over)
        finally:
            unpacker.close()
        layer.files, layer.size_bytes = unpacker.files, unpacker.size

    async def _open_port(self, folder: str, name: str, token: str) -> int:
        last, _ = await self._requests.transfer(FORWARD, "forward", [folder, name, token])
        return int(last.fields[0])


async def start(
    channel: Channel, place: Place, duties: Duties, alive: set[AgentSandbox], *, files: Layer | None = None
) -> AgentSandbox:
    """A sandbox that is ready for commands, in `alive` until it is closed; `files` are copied into it. Takes `place`
    over: what fails here ends it.

    Raises:
        SandboxFault: it did not get ready; with what its process wrote.
        UsageError: a variable of the environment holds a NUL byte.
    """
    sandbox = AgentSandbox(channel, place, alive)
    try:
        with anyio.fail_after(START_S):
            await sandbox.get_ready(duties)
        if files is not None:
            await sandbox.fill(files)
        return sandbox
    except (SandboxFault, TimeoutError) as error:
        messages = place.messages()
        await sandbox.close()
        raise SandboxFault(f"cannot start a sandbox: {messages or error}") from error
    except BaseException:
        await sandbox.close()
        raise
