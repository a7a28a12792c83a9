"""Planner: how bwrap is started for a sandbox. It works in the spawner's thread, which may have mounts of its own."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from envhub.contracts.network import NetworkMode
from sandboxes import cgroups
from sandboxes.bubblewrap.arguments import (
    PLACES,
    SOCKETS,
    closed_root,
    filter_fd,
    find_bwrap,
    host_root,
    image_root,
    isolation,
    kernel_folders,
    overlaid,
    own_places,
    shown_folders,
    shown_places,
    with_changes,
)
from sandboxes.bubblewrap.place import BubblewrapPlace
from sandboxes.bubblewrap.root_folder import RootFolder
from sandboxes.bubblewrap.view import View
from sandboxes.interpreter import agent_argv
from sandboxes.place import Sockets
from sandboxes.privileges import acting_as, lease_uid
from sandboxes.root_view import MODULES
from sandboxes.spawner import Launch

WITH_PORTS = (NetworkMode.GATEWAY, NetworkMode.HOSTS)


class Planner:
    """Keeps what sandboxes share: the view, and the arguments that show a root."""

    def __init__(self) -> None:
        self._view: View | None = None
        self._roots: dict[tuple[str, NetworkMode], list[str]] = {}

    def plan(self, place: BubblewrapPlace) -> Launch:
        """
        Raises:
            SandboxFault: no bwrap, or root without the rights it needs.
        """
        place.uid = lease_uid() if place.files is None else place.files.uid
        if place.uid is not None and self._view is None:
            self._view = View()
        place.group = cgroups.make(place.spec, place.id)
        with ExitStack() as opened:
            fds: list[int] = []
            opened.callback(close, fds)
            program = self._open_program(fds)
            arguments = self._arguments(place, fds)
            reading, writing = os.pipe()
            opened.callback(os.close, writing)
            fds.append(reading)
            argv = [program, "--args", str(reading), "--", *agent(place.root)]
            if place.files is not None and self._view is None:
                argv = [*with_changes(program, place.spec, changes_of(place)), *argv]
            opened.pop_all()
        return Launch(tuple(argv), program, tuple(fds), around=partial(birth, place, arguments, writing))

    def drop(self, place: BubblewrapPlace) -> None:
        """Lets go of the mounts that the sandbox has by now, or never will have. Idempotent."""
        if self._view:
            self._view.drop(place.id)

    def close(self) -> None:
        if self._view:
            self._view.close()

    def _show(self, folder: Path) -> Path:
        return self._view.show(folder) if self._view else folder

    def _open_program(self, fds: list[int]) -> str:
        """bwrap, to be started by a user who may not reach it, with the libraries that PyPI's has beside it."""
        program = find_bwrap()
        top = program.parents[min(2, len(program.parents) - 1)]
        fds.append(os.open(self._show(top) / program.relative_to(top), os.O_PATH))
        return f"/proc/self/fd/{fds[-1]}"

    def _arguments(self, place: BubblewrapPlace, fds: list[int]) -> list[str]:
        calls = filter_fd()
        if calls is not None:
            fds.append(calls)
        ooms = place.group.open_ooms() if place.group else None
        if ooms is not None:
            fds.append(ooms)
            place.ooms = ooms
        mode = place.spec.network.mode
        shown = shown_folders(place.spec, self._show)
        argv = [*isolation(calls, mode), *self._root(place, mode), *shown, *kernel_folders()]
        return [*argv, *self._places(place), *closed_root()]

    def _root(self, place: BubblewrapPlace, mode: NetworkMode) -> list[str]:
        """The arguments that show its root; a root folder is taken to stay as it was at its first use."""
        key = place.spec.image, mode
        if key not in self._roots:
            root = place.root
            self._roots[key] = host_root(self._show, mode) if root is None else image_root(root, self._show, mode)
        return self._roots[key]

    def _places(self, place: BubblewrapPlace) -> list[str]:
        """The places to write, and the folder of its sockets."""
        view, spec, files = self._view, place.spec, place.files
        folder = place.folder
        if view is None or place.uid is None:
            argv = own_places(spec, fork=files is not None)
            if files is not None:
                changes_of(place).mkdir()
                argv += overlaid(files.folder, changes_of(place))
        else:
            folder = view.hold(place.id)
            for name, mode in PLACES.items():
                if files is not None and name == "workspace":
                    view.overlay(folder, name, place.uid, spec, files.folder)
                else:
                    view.tmpfs(folder, name, place.uid, mode, spec)
            argv = shown_places(folder)
        if spec.network.mode in WITH_PORTS:
            place.sockets = Sockets(place.folder / "sockets", SOCKETS)
            place.sockets.host.mkdir()
            place.sockets.host.chmod(0o711)  # whatever the umask
            if view is not None:
                view.bind(folder, "sockets", place.sockets.host)
            argv += ["--ro-bind", str(folder / "sockets"), SOCKETS]
        return argv


def agent(root: RootFolder | None) -> tuple[str, ...]:
    """The agent's command line."""
    ours, *rest = agent_argv(MODULES)
    return (ours if root is None else root.python, *rest)


def changes_of(place: BubblewrapPlace) -> Path:
    return place.folder / "changes"


@contextmanager
def birth(place: BubblewrapPlace, arguments: list[str], writing: int) -> Iterator[Callable[[int], None]]:
    """Around the start of bwrap: its group, its user, and the arguments; it waits for them until it is in its group."""

    def born(pid: int) -> None:
        if place.group:
            place.group.born(pid)
        os.write(writing, "".join(f"{word}\0" for word in arguments).encode())

    try:
        with place.group.entered() if place.group else nullcontext(), acting_as(place.uid):
            yield born
    finally:
        os.close(writing)


def close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
