"""What the host says first: the limits, the working directory and the environment of commands."""

from __future__ import annotations

import os
import resource

MAX_OPEN_FILES = 1024


class Settings:
    """Limits (bytes, seconds; `pids` 0: not enforced), the working directory and whose it is to remove."""

    def __init__(self, fields: list[bytes]) -> None:
        self.memory, self.pids, self.file_size, self.cpu_s, self.owns_workdir = map(int, fields[:5])
        self.workdir = os.fsdecode(fields[5])
        self.env = dict(field.split(b"=", 1) for field in fields[6:])

    def limit(self, ours: int) -> None:
        """Limits the calling process; `ours` processes of the agent's own count against `pids`."""
        # DATA, not AS: runtimes that reserve address space without using it (Node, Go, Java) would die of AS.
        limits = {
            resource.RLIMIT_DATA: self.memory,
            resource.RLIMIT_FSIZE: self.file_size,
            resource.RLIMIT_CPU: self.cpu_s,
            resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
            resource.RLIMIT_CORE: 0,
        }
        if self.pids:
            limits[resource.RLIMIT_NPROC] = self.pids + ours
        for kind, value in limits.items():
            hard = resource.getrlimit(kind)[1]
            ceiling = value + 1 if kind == resource.RLIMIT_CPU else value  # SIGXCPU first: it says why
            if hard != resource.RLIM_INFINITY:
                value, ceiling = min(value, hard), min(ceiling, hard)
            resource.setrlimit(kind, (value, ceiling))
