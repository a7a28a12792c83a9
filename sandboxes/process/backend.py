"""Sandboxes without isolation: the agent as a plain process in a private directory. For trusted code only."""

from pathlib import Path

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import Probe, SandboxSpec, Snapshot
from envhub.errors import UsageError
from sandboxes.host.channel import Channel
from sandboxes.host.duties import Duties
from sandboxes.inside.files import remove_tree
from sandboxes.interpreter import agent_argv, base_python, command_env
from sandboxes.layers import Layer, own
from sandboxes.owner import LABEL
from sandboxes.process.place import LocalPlace
from sandboxes.sandbox import AgentSandbox, start
from sandboxes.spawner import Launch, Spawner
from sandboxes.state import state
from sandboxes.threads import in_thread
from sandboxes.trial import trouble

MODULES = Path(__file__).resolve().parents[2]
DETAIL = (
    "runs commands as plain processes of this user, WITHOUT isolation: they see the host's files, network and "
    "processes; memory and CPU are limited, and a tree is killed at its end"
)
LIMITS = {
    "cpus": False,
    "memory_mb": True,
    "pids": False,
    "disk_mb": False,
    "cpu_seconds": True,
    "lifetime_s": True,
}


class ProcessBackend:
    """Makes sandboxes that isolate nothing."""

    name = "process"

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._alive: set[AgentSandbox] = set()

    async def probe(self) -> Probe:
        found = await trouble(self)
        return Probe(not found, False, found or DETAIL, LIMITS)

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> AgentSandbox:
        check(spec)
        layer = None if files is None else own(files, self.name)
        if layer is None:
            return await self._create(spec, None)
        layer.hold()
        try:
            return await self._create(spec, layer)
        finally:
            with anyio.CancelScope(shield=True):
                await layer.release()

    async def _create(self, spec: SandboxSpec, layer: Layer | None) -> AgentSandbox:
        id = state().new_id()
        folder = state().place(id)
        try:
            workdir = folder / "workspace"
            workdir.mkdir()
            if layer:
                await in_thread(lambda: layer.copy_to(workdir))
            label = {LABEL: id}
            launch = Launch(agent_argv(MODULES), str(base_python()), env=label)
            process = await self._spawner.start(lambda: launch)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await in_thread(lambda: remove_tree(str(folder)))
            raise
        place = LocalPlace(id, self.name, spec, str(workdir), process, folder)
        channel = await Channel.over(process.socket)
        duties = Duties({**command_env(str(workdir), str(workdir)), **label}, pids=False, memory=True)
        return await start(channel, place, duties, self._alive)

    async def aclose(self) -> None:
        for sandbox in tuple(self._alive):
            await sandbox.close()
        self._spawner.close()


def check(spec: SandboxSpec) -> None:
    """
    Raises:
        UsageError: the spec asks for what plain processes can't have.
    """
    if spec.image:
        raise UsageError(f"image '{spec.image}': back end 'process' runs on this machine's own files; choose another")
    if spec.shown:
        raise UsageError(f"shown {dict(spec.shown)}: back end 'process' can't show folders elsewhere; choose another")
    if spec.network.mode is NetworkMode.HOSTS:
        raise UsageError("network 'hosts': back end 'process' can't keep commands from other hosts; choose another")
