"""The owner that chaos kills: it makes, uses and closes sandboxes without end, and tells each step as it begins."""

import os
import random
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import anyio

from envhub.contracts.command import ExecRequest
from envhub.contracts.ids import RolloutId
from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import Sandbox, SandboxBackend, SandboxSpec
from envhub.contracts.sandbox_pool import SandboxPool
from envhub.contracts.session import Interpreter
from envhub.contracts.waiting import Holder
from envhub.errors import SandboxFault
from sandboxes.inside.processes import children
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool
from sandboxes.reaper import notes
from sandboxes.state import state

SPEC = SandboxSpec(disk_mb=8, network=Network(NetworkMode.GATEWAY))
LEFT_RUNNING = ExecRequest(("sh", "-c", "sleep 600 & setsid sleep 601 > /dev/null 2>&1 & (trap '' TERM; sleep 0.01)"))
USES = ("exec", "upload", "session", "forward", "snapshot", "fork", "restore")
STEPS = ("create", *USES, "close", "lease", "lease fork", "return")


class Owner:
    """Works with a back end, directly and through a pool with a warm sandbox, until it is cancelled or killed."""

    def __init__(self, backend: SandboxBackend, files: Path, seed: int, tell: Callable[[str], None]) -> None:
        self._backend = backend
        self._files = files
        self._random = random.Random(seed)
        self._tell = tell

    async def live(self) -> None:
        try:
            async with (
                open_pool(self._backend, PoolLimits(max_live=3), warm={SPEC: 1}) as pool,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._again_and_again, self._use_one)
                tasks.start_soon(self._again_and_again, partial(self._lease_one, pool))
        finally:
            with anyio.CancelScope(shield=True):
                await self._backend.aclose()
            for what in left_behind():
                self._tell(f"left {what}")

    async def _again_and_again(self, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except SandboxFault as fault:  # an agent was killed
                self._tell(f"fault {fault}".replace("\n", " "))
                await anyio.sleep(0.01)

    async def _use_one(self) -> None:
        self._tell("create")
        sandbox = await self._backend.create(SPEC)
        try:
            await sandbox.exec(LEFT_RUNNING)
            for use in self._random.sample(USES, 3):
                self._tell(use)
                await self._use(use, sandbox)
        finally:
            self._tell("close")
            await sandbox.close()

    async def _use(self, use: str, sandbox: Sandbox) -> None:
        if use == "exec":
            await sandbox.exec(LEFT_RUNNING)
        elif use == "upload":
            await sandbox.upload(self._files)
        elif use == "session":
            await (await sandbox.session(Interpreter.SHELL)).run("sleep 602 & (setsid sleep 603 &)")
        elif use == "forward":
            await sandbox.forward("127.0.0.1", 9)
        else:
            await self._use_snapshot(use, sandbox)

    async def _use_snapshot(self, use: str, sandbox: Sandbox) -> None:
        snapshot = await sandbox.snapshot()
        try:
            if use == "restore":
                await sandbox.restore(snapshot)
            elif use == "fork":
                fork = await self._backend.create(SPEC, files=snapshot)
                try:
                    await fork.exec(LEFT_RUNNING)
                finally:
                    await fork.close()
        finally:
            with anyio.CancelScope(shield=True):
                await snapshot.close()

    async def _lease_one(self, pool: SandboxPool) -> None:
        self._tell("lease")
        async with pool.lease(SPEC, Holder(RolloutId("chaos"))) as lease:
            await lease.sandbox.exec(LEFT_RUNNING)
            self._tell("lease fork")
            async with lease.fork() as fork:
                await fork.exec(LEFT_RUNNING)
            self._tell("return")


def left_behind() -> Iterator[str]:
    """What is there of this owner's sandboxes although it has closed them all."""
    folder = state().folder("layers").parent
    yield from (str(path) for path in (*folder.glob("[0-9]*"), *folder.glob("layers/*")))
    for group in notes(str(folder)).get("cgroup", []):
        yield from (str(path) for path in Path(group).iterdir() if path.is_dir())
    for pid in children(os.getpid()):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if command and "sandboxes.reaper" not in command:  # a dead one has none
            yield f"process {pid}: {command}"
