"""Sandbox: an isolated place to act, the back ends that make it, and the pool that leases it."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from envhub.contracts.ids import RolloutId
from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a sandbox gets. Without network, with a private /tmp and working directory.

    Raises:
        UsageError: a limit that is not positive.
    """

    memory_mb: int = 512
    pids: int = 64
    disk_mb: int = 64
    cpu_seconds: int = 600
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("memory_mb", "pids", "disk_mb", "cpu_seconds"):
            if getattr(self, name) < 1:
                raise UsageError(f"sandbox limit {name} is {getattr(self, name)}; it must be at least 1")

    def __hash__(self) -> int:
        return hash((self.memory_mb, self.pids, self.disk_mb, self.cpu_seconds, tuple(sorted(self.env.items()))))


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """One command. Of each output stream at most `max_output` bytes are kept; the rest is counted and thrown away."""

    argv: tuple[str, ...]
    stdin: bytes = b""
    timeout_s: float = 30.0
    cwd: str = ""  # "": the sandbox's working directory
    max_output: int = 64 * 1024

    def __post_init__(self) -> None:
        if not self.argv:
            raise UsageError("argv is empty; name the program to run")
        if self.timeout_s <= 0:
            raise UsageError(f"timeout_s is {self.timeout_s}; it must be positive")


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended. `exit_code` is -N when signal N ended it."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    stdout_bytes: int  # written in all, kept or not
    stderr_bytes: int
    timed_out: bool
    duration_s: float


class Sandbox(Protocol):
    """A live sandbox."""

    async def exec(self, request: ExecRequest) -> ExecResult:
        """Runs a command and waits; at its timeout, or when cancelled, its whole process tree is killed.

        Raises:
            SandboxFault: the sandbox itself died.
        """

    async def write(self, path: str, data: bytes) -> None:
        """Writes a file below the working directory, parents included.

        Raises:
            UsageError: the path leaves the working directory.
        """

    async def read(self, path: str, *, max_bytes: int = 1 << 20) -> bytes:
        """Reads a file below the working directory.

        Raises:
            UsageError: no such file, a path that leaves the working directory, or a file over `max_bytes`.
        """

    async def end_processes(self) -> None:
        """Kills every process that commands left running, and commands that still run; files stay.

        Raises:
            SandboxFault: the sandbox died, or had to be destroyed to end them.
        """

    async def close(self) -> None:
        """Kills every process in it and removes its files. Idempotent."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Whether a back end works here, found by running it."""

    works: bool
    isolates: bool
    detail: str  # what is enforced, or why it does not work and what to install
    limits: Mapping[str, bool] = field(default_factory=dict)  # limit of SandboxSpec -> enforced on this machine


class SandboxBackend(Protocol):
    """Makes sandboxes of one kind."""

    name: str

    async def probe(self) -> Probe: ...

    async def create(self, spec: SandboxSpec) -> Sandbox:
        """
        Raises:
            SandboxFault: it could not be made.
        """


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a lease: a rollout and all rollouts above it that can't end before it does."""

    rollout_id: RolloutId
    ancestors: tuple[RolloutId, ...] = ()


class SandboxPool(Protocol):
    """Leases sandboxes, each returned exactly once and destroyed then."""

    def lease(self, spec: SandboxSpec, holder: Holder) -> AbstractAsyncContextManager[Sandbox]:
        """Waits for a free place, makes a sandbox and destroys it at the end, whatever happens in between.

        Raises:
            LeaseUnavailable: nobody who could return a lease ever will before this one is granted, or the wait's
                deadline passed.
        """
