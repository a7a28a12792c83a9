"""Sandboxes by gVisor: containers whose system calls a kernel of their own answers, so that the host's is hardly seen.

The engine needs the runtime once, in its daemon.json (Docker) or containers.conf (Podman):
    {"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": ["--network=none"]}}}
"""

from dataclasses import replace

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import Probe, SandboxSpec, Snapshot
from envhub.errors import UsageError
from sandboxes.docker.backend import DockerBackend
from sandboxes.docker.container import Runtime
from sandboxes.docker.engine import Abilities
from sandboxes.sandbox import AgentSandbox


class GvisorBackend(DockerBackend):
    """Makes sandboxes that isolate most, and start and run slower than all others."""

    name = "gvisor"
    runtime = Runtime("runsc", memory_mb=128, pids=1024)  # its kernel takes threads of the host's as it likes

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> AgentSandbox:
        if spec.network.mode is not NetworkMode.NONE:
            raise UsageError(
                f"network '{spec.network.mode}' needs a sandbox that shares the host's kernel, and gvisor can do "
                "'none' alone; use bubblewrap, zygote or docker"
            )
        runtimes = (await self._able()).runtimes
        if self.runtime.name not in runtimes:
            raise UsageError(
                f"the engine at {self._engine.path} has no runtime '{self.runtime.name}', but {', '.join(runtimes)}; "
                "install gVisor (Debian's package runsc, say), then name it in the engine's daemon.json"
            )
        return await super().create(spec, files=files)

    def _probed(self, abilities: Abilities) -> Probe:
        detail = (
            f"gvisor in {abilities.version} at {self._engine.path}: a kernel of its own, own user, read-only root, "
            "no network, no capability; memory over its limit ends the sandbox"
        )
        return replace(super()._probed(abilities), detail=detail)
