"""Sandboxes by a container engine: Docker, or Podman at its Docker-compatible socket.

The engine's socket is as good as root on its machine; envhub holds it, and no sandbox ever sees it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import anyio

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import Probe, SandboxSpec, Snapshot
from envhub.errors import UsageError
from sandboxes.docker.container import SOCKETS, WORKDIR, Container, Plan, Runtime, new_uid
from sandboxes.docker.engine import Abilities, Engine, Image
from sandboxes.docker.seccomp import profile
from sandboxes.host.duties import Duties
from sandboxes.inside.boot import OOMS
from sandboxes.interpreter import SYSTEM_PATH
from sandboxes.layers import Layer, own
from sandboxes.root_view import shown_of
from sandboxes.sandbox import AgentSandbox, start
from sandboxes.state import state
from sandboxes.trial import trouble

IMAGE = "envhub/base"
FORWARDED = (NetworkMode.GATEWAY, NetworkMode.HOSTS)


class DockerBackend:
    """Makes sandboxes from the images of an engine. `disk_mb` bounds each place to write, all of them in memory.

    `url` names the engine's unix socket; else DOCKER_HOST does (CONTAINER_HOST for Podman), else it is where engines
    have it usually. `image` is what a spec without one gets.
    """

    name = "docker"
    variable = "DOCKER_HOST"
    sockets: tuple[str, ...] = ("/var/run/docker.sock", "$XDG_RUNTIME_DIR/docker.sock", "~/.docker/run/docker.sock")
    runtime = Runtime()

    def __init__(self, url: str = "", *, image: str = IMAGE) -> None:
        self._engine = Engine(self.name, socket_of(url or os.environ.get(self.variable, ""), self.sockets))
        self._image = image
        self._alive: set[AgentSandbox] = set()
        self._abilities: Abilities | None = None
        self._noted = ""  # the owner whose reaper knows of the engine

    async def probe(self) -> Probe:
        if found := await trouble(self):
            return Probe(False, False, found)
        return self._probed(await self._able())

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> AgentSandbox:
        layer = None if files is None else own(files, self.name)
        plan = await self._plan(spec, layer)
        place = Container(self.name, plan, self._engine, state().place(plan.id))
        try:
            over = None if layer is None else await place.open_over(layer)
            channel = over or await place.open()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await place.end()
            raise
        return await start(channel, place, await self._duties(plan), self._alive, files=None if over else layer)

    async def aclose(self) -> None:
        for sandbox in tuple(self._alive):
            await sandbox.close()
        await self._engine.aclose()

    async def _plan(self, spec: SandboxSpec, layer: Layer | None) -> Plan:
        image = await self._engine.image(self._named(spec))
        mapped = (await self._able()).rootless
        shared = layer.uid if layer else None
        uid = new_uid(mapped) if shared is None else shared
        fork_uid = new_uid(mapped) if os.geteuid() == 0 else None
        ours = state()
        if self._noted != ours.owner:
            ours.note("engine", self._engine.path)
            self._noted = ours.owner
        id = ours.new_id()
        sockets = sockets_of(ours.place(id)) if spec.network.mode in FORWARDED else {}
        mounts = {**dict(shown_of(spec)), **sockets}
        return Plan(id, ours.owner, spec, image, uid, shared is None, fork_uid, mounts, self._seccomp(), self.runtime)

    async def _duties(self, plan: Plan) -> Duties:
        memory = not (await self._able()).limits["memory_mb"]
        return Duties(command_env(plan.image), pids=plan.alone, memory=memory, in_memory=plan.writable, ooms=OOMS)

    async def _able(self) -> Abilities:
        if self._abilities is None:
            self._abilities = await self._engine.abilities()
        return self._abilities

    def _named(self, spec: SandboxSpec) -> str:
        if spec.image.startswith("/"):
            raise UsageError(
                f"image '{spec.image}' is a folder, and {self.name} runs images; make one of it "
                f"(`tar -C {spec.image} -c . | {self.name} import - NAME`), or use bubblewrap"
            )
        return spec.image or self._image

    def _seccomp(self) -> str:
        """The system call filter, as this engine takes it."""
        return profile()

    def _probed(self, abilities: Abilities) -> Probe:
        filtered = "a system call filter" if abilities.seccomp else "NO system call filter (the engine has no seccomp)"
        detail = (
            f"{self.name} {abilities.version} at {self._engine.path}: all namespaces, own user, read-only root, "
            f"no network, no capability, {filtered}"
        )
        return Probe(True, True, detail, {**abilities.limits, "disk_mb": True, "cpu_seconds": True, "lifetime_s": True})


class PodmanBackend(DockerBackend):
    """The same at Podman's socket (`systemctl --user start podman.socket`)."""

    name = "podman"
    variable = "CONTAINER_HOST"
    sockets = ("$XDG_RUNTIME_DIR/podman/podman.sock", "/run/podman/podman.sock")

    def _seccomp(self) -> str:
        file = state().folder("seccomp") / "profile.json"
        if not file.exists():
            file.write_text(profile())
        return str(file)


def socket_of(url: str, usual: tuple[str, ...]) -> str:
    """The engine's socket: as told, else the first of the usual ones that is there, else the first."""
    if url:
        return url.removeprefix("unix://")
    told = (Path(os.path.expandvars(text)).expanduser() for text in usual)
    known = [path for path in told if path.is_absolute()]  # a variable that is not set stays as it was written
    return str(next((path for path in known if path.is_socket()), known[0]))


def sockets_of(folder: Path) -> Mapping[str, Path]:
    """The folder through which the agent hands its ports to the host."""
    sockets = folder / "sockets"
    sockets.mkdir(mode=0o711)
    return {SOCKETS: sockets}


def command_env(image: Image) -> Mapping[str, str]:
    """What commands see of an environment: the image's, and what every sandbox has."""
    own = dict(text.split("=", 1) for text in image.env if "=" in text)
    return {"PATH": SYSTEM_PATH, **own, "HOME": WORKDIR, "TMPDIR": "/tmp", "LANG": own.get("LANG", "C.UTF-8")}
