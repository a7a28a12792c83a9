"""One container: how it is configured, and what the host keeps of it."""

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import SandboxSpec, SandboxStats
from envhub.errors import SandboxFault
from sandboxes.docker.engine import Engine, Image
from sandboxes.docker.fork import can_overlay, overlay
from sandboxes.docker.stream import Unframed, attach, boot_argv
from sandboxes.host.channel import Channel
from sandboxes.host.duties import MB
from sandboxes.inside.files import remove_tree
from sandboxes.layers import Layer
from sandboxes.place import Sockets
from sandboxes.privileges import UIDS
from sandboxes.threads import in_thread

WORKDIR = "/workspace"
SOCKETS = "/.envhub/sockets"
MAPPED_UIDS = (10_000, 60_000)  # where an engine maps users, ids beyond 65,535 rarely exist inside
OPEN_FILES = 4096  # of the agent; commands get fewer
PROCESSES = 32_768  # Podman's own default may be more than it may set; the pids limit binds first
TMPFS = "rw,exec,nosuid,nodev,mode=1777,size={}"


class Container:
    """A Place, once it is open. `folder` is the host's, for its sockets and mounts; it goes with the container."""

    workdir = WORKDIR

    def __init__(self, backend: str, plan: "Plan", engine: Engine, folder: Path) -> None:
        self.backend = backend
        self.id = plan.id
        self.spec = plan.spec
        self.uid = plan.fork_uid
        self._plan = plan
        self._engine = engine
        self._folder = folder
        self._stream: Unframed | None = None
        self._below: Layer | None = None

    @property
    def sockets(self) -> Sockets | None:
        source = self._plan.mounts.get(SOCKETS)
        return Sockets(source, SOCKETS) if source else None

    async def open(self, mounts: Mapping[str, Path] = MappingProxyType({})) -> Channel:
        """Starts it; `mounts` are added to those of the plan.

        Raises:
            SandboxFault, UsageError: see Engine.start.
        """
        plan = replace(self._plan, mounts={**self._plan.mounts, **mounts})
        end = await self._engine.start(name_of(self.id), plan.image, plan.body())
        channel, self._stream = await attach(end)
        return channel

    async def open_over(self, layer: Layer) -> Channel | None:
        """Starts it with a snapshot's files in its working directory, without a copy; None where that can't be done."""
        if not can_overlay(layer):
            return None
        layer.hold()
        self._below = layer  # until the end, also where its files are copied after all
        with anyio.CancelScope(shield=True), suppress(OSError, SandboxFault):
            async with in_threads(overlay(layer, self._folder, self.spec.disk_mb * MB)) as merged:
                return await self.open({WORKDIR: merged})
        return None

    def messages(self) -> str:
        return bytes(self._stream.messages).decode(errors="replace").strip() if self._stream else ""

    def stats(self) -> SandboxStats | None:
        return None

    async def end(self) -> None:
        await self._engine.remove(name_of(self.id))
        below, self._below = self._below, None
        if below is not None:
            await below.release()
        if self._folder.exists():
            await in_thread(lambda: remove_tree(str(self._folder)))


@asynccontextmanager
async def in_threads(manager: AbstractContextManager[Path]) -> AsyncIterator[Path]:
    """A context manager that blocks, entered and left in threads."""
    stack = ExitStack()
    try:
        yield await in_thread(lambda: stack.enter_context(manager))
    finally:
        await in_thread(stack.close)


def name_of(id: str) -> str:
    return f"envhub-{id}"


def new_uid(mapped: bool) -> int:
    """A user for one sandbox, that nobody else on the machine is."""
    low, high = MAPPED_UIDS if mapped else UIDS
    return low + secrets.randbelow(high - low)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs containers, and how much of their limits is its own and the agent's."""

    name: str = ""  # "": the engine's default
    memory_mb: int = 32
    pids: int = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """A container to be: `mounts` are folders of the host by their place inside."""

    id: str
    owner: str
    spec: SandboxSpec
    image: Image
    uid: int
    alone: bool  # no other sandbox is that user; else RLIMIT_NPROC, which counts by user, is no bound of this one
    fork_uid: int | None  # who owns the files of snapshots and is the user of forks over them; None: nobody can
    mounts: Mapping[str, Path]
    seccomp: str  # the system call filter, or where the engine finds it
    runtime: Runtime

    @property
    def writable(self) -> tuple[str, ...]:
        """The places to write, all of them in memory."""
        return (WORKDIR, "/tmp", "/var/tmp", "/dev/shm", *self.image.volumes)

    def body(self) -> Mapping[str, object]:
        """What ContainerCreate takes (Docker Engine API).

        The agent is the container's main process, so that it can neither be killed nor stopped from inside, and holds
        its stdin: the container ends and is removed when the host closes the connection or dies.
        """
        in_memory = set(self.writable) - {"/dev/shm", *self.mounts}  # /dev/shm has an option of its own
        return {
            "Image": self.image.id,
            "Entrypoint": boot_argv(),
            "Cmd": [],
            "User": f"{self.uid}:{self.uid}",
            "WorkingDir": "/",
            "Hostname": "sandbox",
            "Labels": {"envhub.owner": self.owner, "envhub.sandbox": self.id},
            "Healthcheck": {"Test": ["NONE"]},
            "StopSignal": "SIGKILL",  # at once: an engine that is started again would wait 10 s otherwise
            **dict.fromkeys(("OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr"), True),
            "HostConfig": {
                **isolation(self.spec, self.seccomp),
                **self._limits(),
                "Tmpfs": dict.fromkeys(in_memory, TMPFS.format(self.spec.disk_mb * MB)),
                "Mounts": [bind(source, target) for target, source in self.mounts.items()],
                "AutoRemove": True,
                "LogConfig": {"Type": "none"},  # the engine would write every frame to its disk
                "Runtime": self.runtime.name,
            },
        }

    def _limits(self) -> Mapping[str, object]:
        memory = (self.spec.memory_mb + self.runtime.memory_mb) * MB
        keepers = self.spec.pids if self.alone else 0  # the agent's, one a command; RLIMIT_NPROC bounds the commands'
        bounds = {"nofile": OPEN_FILES, "nproc": PROCESSES, "core": 0}
        return {
            "Memory": memory,
            "MemorySwap": memory,  # the two together: no swap
            "NanoCpus": int(self.spec.cpus * 1e9),
            "PidsLimit": self.spec.pids + self.runtime.pids + keepers,
            "ShmSize": self.spec.disk_mb * MB,
            "Ulimits": [{"Name": name, "Soft": bound, "Hard": bound} for name, bound in bounds.items()],
        }


def isolation(spec: SandboxSpec, seccomp: str) -> Mapping[str, object]:
    return {
        "NetworkMode": "host" if spec.network.mode is NetworkMode.FULL else "none",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges", f"seccomp={seccomp}"],
        "ReadonlyRootfs": True,
        "IpcMode": "private",
        "CgroupnsMode": "private",
    }


def bind(source: Path, target: str) -> Mapping[str, object]:
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": target != WORKDIR}
