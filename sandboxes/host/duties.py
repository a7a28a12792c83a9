"""Duties: what the agent is told at its start."""

from collections.abc import Mapping
from dataclasses import dataclass

from sandboxes.host.conversation import encoded
from sandboxes.place import Place

MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Duties:
    """The environment of commands, and what the agent has to enforce because the place does not. The rest of the limits
    it enforces always."""

    env: Mapping[str, str]
    pids: bool  # by RLIMIT_NPROC, which must count this sandbox's processes alone
    memory: bool  # by looking at what all its processes hold together: no cgroup does
    in_memory: tuple[str, ...] = ()  # file systems whose content then counts too
    ooms: int = -1  # a descriptor inside that tells of the kernel's kills, a line `oom_kill N`; -1: none

    def fields(self, place: Place) -> list[bytes]:
        """
        Raises:
            UsageError: a variable holds a NUL byte.
        """
        spec = place.spec
        numbers = (
            spec.memory_mb * MB,
            int(self.memory),
            spec.pids if self.pids else 0,
            spec.disk_mb * MB,
            spec.cpu_seconds,
            self.ooms,
        )
        variables = [f"{name}={value}" for name, value in {**self.env, **spec.env}.items()]
        told = [*map(str, numbers), repr(spec.lifetime_s), place.workdir, ":".join(self.in_memory), *variables]
        return encoded("environment", told)
