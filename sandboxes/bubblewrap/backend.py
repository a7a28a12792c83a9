"""Sandboxes by bubblewrap: namespaces, a minimal read-only root, a system call filter, cgroups where permitted.

Started by root, each sandbox runs under a uid of its own, for bwrap as root would map the sandbox's user to the host's.
A fork keeps the uid of the sandbox whose files it starts from, for it must own them. That is safe as it is between all
sandboxes of an ordinary user: each has namespaces of its own, and no process sees another's.
"""

import os
import platform
from functools import partial

import anyio

from envhub.contracts.sandbox import Probe, SandboxSpec, Snapshot
from envhub.errors import SandboxFault
from sandboxes import cgroups, seccomp
from sandboxes.bubblewrap.arguments import HINT, SEEN_AT, find_bwrap
from sandboxes.bubblewrap.place import BubblewrapPlace
from sandboxes.bubblewrap.planner import Planner
from sandboxes.bubblewrap.root_folder import RootFolder
from sandboxes.host.channel import Channel
from sandboxes.host.duties import Duties
from sandboxes.interpreter import SYSTEM_PATH, command_env
from sandboxes.layers import own
from sandboxes.root_view import WORKDIR
from sandboxes.sandbox import AgentSandbox, start
from sandboxes.spawner import AgentProcess, Spawner
from sandboxes.state import state
from sandboxes.trial import trouble

PIDS_PER_NAMESPACE = (5, 14)  # the kernel since which RLIMIT_NPROC counts inside a user namespace


class BubblewrapBackend:
    """Makes sandboxes that isolate. `disk_mb` bounds each of /workspace, /tmp and /dev/shm, all of them in memory, and
    of a fork what it changes.

    An image is a root file system's folder. Its Python runs the agent, and none of the host's files is seen.
    """

    name = "bubblewrap"

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._planner = Planner()
        self._alive: set[AgentSandbox] = set()
        self._closed = False

    async def probe(self) -> Probe:
        if found := await trouble(self):
            return Probe(False, False, f"{found}; {HINT}")
        return Probe(True, True, enforced(), limits())

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> AgentSandbox:
        root = RootFolder.at(spec.image) if spec.image else None
        layer = None if files is None else own(files, self.name)
        if self._closed:
            raise SandboxFault("the back end is closed")
        if layer:
            layer.hold()
        id = state().new_id()
        place = BubblewrapPlace(id, self.name, spec, root, layer, state().place(id))
        try:
            place.process = await self._start(place)
            channel = await Channel.over(place.process.socket)
            return await start(channel, place, duties(place), self._alive)
        finally:
            await self._spawner.run(partial(self._planner.drop, place))

    async def aclose(self) -> None:
        for sandbox in tuple(self._alive):
            await sandbox.close()
        if not self._closed:
            self._closed = True
            await self._spawner.run(self._planner.close)
            self._spawner.close()

    async def _start(self, place: BubblewrapPlace) -> AgentProcess:
        """The started process; where it can't be, nothing is left of what was made for it."""
        try:
            return await self._spawner.start(partial(self._planner.plan, place))
        except SandboxFault:
            with anyio.CancelScope(shield=True):
                await place.end()
            raise


def duties(place: BubblewrapPlace) -> Duties:
    """What is left to the agent."""
    env = command_env(WORKDIR, "/tmp")
    if place.root:
        env["PATH"] = SYSTEM_PATH
    watched = place.ooms < 0
    in_memory = tuple(SEEN_AT.values()) if watched else ()
    return Duties(env, pids=limits_pids(), memory=watched, in_memory=in_memory, ooms=place.ooms)


def limits_pids() -> bool:
    """Whether RLIMIT_NPROC counts a sandbox's processes alone, and not all of this user's."""
    release = tuple(int(part) for part in platform.release().split(".")[:2])
    return os.geteuid() == 0 or release >= PIDS_PER_NAMESPACE


def limits() -> dict[str, bool]:
    bounded = cgroups.enforced()
    return {
        "cpus": "cpus" in bounded,
        "memory_mb": True,
        "pids": limits_pids() or "pids" in bounded,
        "disk_mb": True,
        "cpu_seconds": True,
        "lifetime_s": True,
    }


def enforced() -> str:
    filtered = "a system call filter" if seccomp.host_program() else f"NO system call filter ({platform.machine()})"
    grouped = f"cgroups for {', '.join(sorted(cgroups.enforced()))}"
    if not cgroups.enforced():
        grouped = f"no cgroups, so that cpus is not bounded and memory_mb by a look every 0.1 s ({cgroups.why_not()})"
    return f"{find_bwrap()}: all namespaces, read-only root, no network, no capability, {filtered}; {grouped}"
