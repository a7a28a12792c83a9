"""Sandboxes by zygote: a warmed Python forks them, so that one is there in milliseconds.

They are contained as bubblewrap's are and see what those see (root_view.py): every namespace is their own, the root is
minimal and read-only, they have no capability, the same system call filter, and under root a uid of their own. Stricter
than there, all namespaces but that of users belong to the zygote, so that nothing inside could ever undo a mount.
"""

import platform
from functools import partial
from pathlib import Path
from typing import TypeAlias

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import Probe, SandboxSpec, Snapshot
from envhub.errors import SandboxFault, UsageError
from sandboxes import cgroups, seccomp
from sandboxes.host.channel import Channel
from sandboxes.host.duties import Duties
from sandboxes.inside.zygote_child import OOMS
from sandboxes.inside.zygote_request import MOUNTS, Plan
from sandboxes.interpreter import base_prefix, command_env
from sandboxes.layers import own
from sandboxes.root_view import ETC, ROOT_FOLDERS, WORKDIR, packages, shared_etc, shown_of
from sandboxes.sandbox import AgentSandbox, start
from sandboxes.spawner import Spawner
from sandboxes.state import state
from sandboxes.trial import trouble
from sandboxes.zygote.parent import ZygoteParent
from sandboxes.zygote.place import ZygotePlace

Shown: TypeAlias = tuple[tuple[str, str], ...]  # path inside, folder of the host
HINT = (
    "it needs Linux 5.14 and, as root, CAP_SYS_ADMIN; as an ordinary user, user namespaces: see the sysctls "
    "user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; "
    "in a container, allow them in its seccomp profile and leave /proc unmasked; or use the back end 'bubblewrap'"
)


class ZygoteBackend:
    """Makes sandboxes that isolate. `disk_mb` bounds each of /workspace, /tmp and /dev/shm, all of them in memory."""

    name = "zygote"

    def __init__(self) -> None:
        self._spawner = Spawner()
        self._parents: dict[tuple[NetworkMode, Shown], ZygoteParent] = {}
        self._alive: set[AgentSandbox] = set()

    async def probe(self) -> Probe:
        if found := await trouble(self):
            return Probe(False, False, f"{found}; {HINT}")
        always = dict.fromkeys(("memory_mb", "pids", "disk_mb", "cpu_seconds", "lifetime_s"), True)
        return Probe(True, True, enforced(), {"cpus": "cpus" in cgroups.enforced(), **always})

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> AgentSandbox:
        if spec.image:
            raise UsageError(
                f"image '{spec.image}': the zygote's sandboxes have the host's /usr and Python; leave the image empty, "
                "or use the back end 'bubblewrap' for a root file system's folder, 'docker' for an engine's image"
            )
        layer = None if files is None else own(files, self.name)
        place = ZygotePlace(self.name, spec, layer, self._parent(spec))
        try:
            await self._spawner.run(place.prepare)
            await place.fork()
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await place.end()
            if isinstance(error, OSError):
                raise SandboxFault(f"cannot start a sandbox: {error}") from error
            raise
        channel = await Channel.over(place.socket)
        return await start(channel, place, duties(place), self._alive)

    def _parent(self, spec: SandboxSpec) -> ZygoteParent:
        """The zygote whose children see just what that spec shows."""
        shown = tuple((inside, str(folder)) for inside, folder in shown_of(spec))
        key = spec.network.mode, shown
        if key not in self._parents:
            self._parents[key] = ZygoteParent(self._spawner, partial(plan, *key))
        return self._parents[key]

    async def aclose(self) -> None:
        for sandbox in tuple(self._alive):
            await sandbox.close()
        for parent in self._parents.values():
            await parent.aclose()
        self._spawner.close()


def duties(place: ZygotePlace) -> Duties:
    """What is left to the agent."""
    watched = "memory_mb" not in cgroups.enforced()
    return Duties(
        command_env(WORKDIR, "/tmp"),
        pids=True,
        memory=watched,
        in_memory=(WORKDIR, *MOUNTS) if watched else (),
        ooms=OOMS if place.tells_ooms else -1,
    )


def plan(mode: NetworkMode, placed: Shown = ()) -> Plan:
    """What all sandboxes of a zygote have in common. It is made when their zygote starts."""
    folders = [folder for folder in (Path("/", name) for name in ROOT_FOLDERS) if folder.is_dir()]
    links = [(str(folder), str(folder.readlink())) for folder in folders if folder.is_symlink()]
    shown = [Path("/usr"), *(folder for folder in folders if not folder.is_symlink())]
    if not base_prefix().is_relative_to("/usr"):
        shown.append(base_prefix())
    etc = shared_etc(mode)
    return Plan(
        shown=[*map(str, shown), *etc],
        placed=list(placed),
        links=links,
        hidden=[str(folder) for folder in packages(base_prefix())],
        files=[(name, text) for name, text in ETC.items() if name not in etc],
        workdir=WORKDIR,
        host=str(state().folder("layers").parent),
        own_network=mode is not NetworkMode.FULL,
        call_filter=(seccomp.host_program() or b"").hex(),
    )


def enforced() -> str:
    filtered = "a system call filter" if seccomp.host_program() else f"NO system call filter ({platform.machine()})"
    bounded = cgroups.why_not() or f"cgroups bound {', '.join(sorted(cgroups.enforced()))}"
    return (
        f"forked from a warm Python: all namespaces, read-only root, no network, no capability, {filtered}; {bounded}"
    )
