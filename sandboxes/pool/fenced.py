"""A sandbox and its sessions as a lease shows them: the same for as long as the lease lasts, wherever they live."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import anyio

from envhub.contracts.command import ExecRequest, ExecResult, Output
from envhub.contracts.sandbox import Sandbox, SandboxStats, Snapshot
from envhub.contracts.session import Interpreter, Session, SessionResult


class Fence(Protocol):
    """What a call has to pass."""

    @property
    def id(self) -> str:
        """Of the sandbox behind it."""

    def call(self) -> AbstractAsyncContextManager[Sandbox]:
        """A call, with the sandbox that it is for.

        Raises:
            SandboxFault: none passes any more.
        """

    def bind(self) -> None:
        """Notes that this sandbox can serve nobody else, and none in its place can serve its holder."""


class FencedSandbox:
    """A Sandbox whose every call goes through a fence."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    @property
    def id(self) -> str:
        return self._fence.id

    async def exec(self, request: ExecRequest) -> ExecResult:
        async with self._fence.call() as sandbox:
            return await sandbox.exec(request)

    async def stream(self, request: ExecRequest) -> AsyncGenerator[Output | ExecResult, None]:
        async with self._fence.call() as sandbox, aclosing(sandbox.stream(request)) as outputs:
            async for output in outputs:
                yield output

    async def session(self, interpreter: Interpreter) -> Session:
        async with self._fence.call() as sandbox:
            return FencedSession(self._fence, interpreter, sandbox, await sandbox.session(interpreter))

    async def write(self, path: str, data: bytes) -> None:
        async with self._fence.call() as sandbox:
            await sandbox.write(path, data)

    async def read(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        async with self._fence.call() as sandbox:
            return await sandbox.read(path, max_bytes=max_bytes)

    async def upload(self, source: Path, path: str = "") -> None:
        async with self._fence.call() as sandbox:
            await sandbox.upload(source, path)

    async def download(self, path: str, target: Path, *, max_bytes: int = 1 << 28) -> None:
        async with self._fence.call() as sandbox:
            await sandbox.download(path, target, max_bytes=max_bytes)

    async def snapshot(self) -> Snapshot:
        async with self._fence.call() as sandbox:
            return await sandbox.snapshot()

    async def restore(self, snapshot: Snapshot) -> None:
        async with self._fence.call() as sandbox:
            await sandbox.restore(snapshot)

    async def save(self, file: Path) -> int:
        async with self._fence.call() as sandbox:
            return await sandbox.save(file)

    async def load(self, file: Path) -> None:
        async with self._fence.call() as sandbox:
            await sandbox.load(file)

    async def forward(self, host: str, port: int) -> str:
        async with self._fence.call() as sandbox:
            self._fence.bind()  # the next holder must not find a way to this one's endpoints
            return await sandbox.forward(host, port)

    async def stats(self) -> SandboxStats:
        async with self._fence.call() as sandbox:
            return await sandbox.stats()

    async def end_processes(self) -> None:
        async with self._fence.call() as sandbox:
            await sandbox.end_processes()

    async def close(self) -> None:
        async with self._fence.call() as sandbox:
            self._fence.bind()
            await sandbox.close()


class FencedSession:
    """A Session whose every run goes through a fence; started anew in a sandbox that took the place of its own."""

    def __init__(self, fence: Fence, interpreter: Interpreter, sandbox: Sandbox, inner: Session) -> None:
        self._fence = fence
        self._interpreter = interpreter
        self._sandbox = sandbox
        self._inner = inner
        self._closed = False
        self._moving = anyio.Lock(fast_acquire=True)

    async def run(self, code: str, *, timeout_s: float = 30.0, max_output: int = 64 * 1024) -> SessionResult:
        async with self._fence.call() as sandbox:
            moved = await self._move(sandbox)
            result = await self._inner.run(code, timeout_s=timeout_s, max_output=max_output)
        return replace(result, restarted=True) if moved else result

    async def close(self) -> None:
        self._closed = True
        await self._inner.close()  # without the fence: it ends what is its own alone, or what has ended

    async def _move(self, sandbox: Sandbox) -> bool:
        """Whether it had to be started anew."""
        async with self._moving:
            if sandbox is self._sandbox or self._closed:
                return False
            self._inner = await sandbox.session(self._interpreter)
            self._sandbox = sandbox
            return True
