"""View: what root shows to the users that its sandboxes run as, in a mount namespace that no other process is in.

A sandbox's user can't reach what only root may enter: a Python in root's home, the folder of an owner. And only root
mounts with all options: places to write whose inodes are bounded too, and overlays that let folders be renamed.

Invariants:
- Nothing is mounted on the host: the namespace belongs to one thread, and to what it starts.
- A place of a sandbox is here only until that sandbox has its own mount of it; then it lives and dies with the sandbox.
"""

import os
from contextlib import suppress
from pathlib import Path

from envhub.contracts.sandbox import SandboxSpec
from envhub.errors import SandboxFault
from sandboxes.inside.zygote_calls import (
    CLONE_NEWNS,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    mount,
    unmount,
    unshare,
)
from sandboxes.privileges import everybody_may_read

SPOTS = ("/mnt", "/media", "/srv", "/run")  # one of them is covered; what lies under it is reached all the same
INODES_PER_MB = 512  # a file holds a page of 4 KiB at least; folders and links hold none
SAFE = MS_NOSUID | MS_NODEV


class View:
    """To be made and used in one thread, which must be root."""

    def __init__(self) -> None:
        """
        Raises:
            SandboxFault: this root may not mount (no CAP_SYS_ADMIN).
        """
        self._shown: dict[Path, Path] = {}
        self._top = next(Path(spot) for spot in SPOTS if Path(spot).is_dir())
        try:
            unshare(CLONE_NEWNS)
            mount("none", "/", flags=MS_REC | MS_SLAVE)
            self._covered = os.open(self._top, os.O_PATH | os.O_CLOEXEC)
            mount("envhub", str(self._top), "tmpfs", SAFE, "mode=0711,size=1m")
        except OSError as error:
            raise SandboxFault(
                f"root without the right to mount ({error.strerror}) can't give sandboxes a user of their own; grant "
                "it CAP_SYS_ADMIN, or run as an ordinary user"
            ) from error

    def close(self) -> None:
        os.close(self._covered)

    def show(self, folder: Path) -> Path:
        """Where every user reaches the folder; whoever may see it must not write to it."""
        if folder not in self._shown:
            self._shown[folder] = folder if self._is_open(folder) else self._bind(folder)
        return self._shown[folder]

    def hold(self, name: str) -> Path:
        """A folder for the mounts of one sandbox."""
        folder = self._top / name
        folder.mkdir()
        folder.chmod(0o711)  # whatever the umask
        return folder

    def tmpfs(self, folder: Path, name: str, uid: int, mode: int, spec: SandboxSpec) -> None:
        """A place to write, which is the user's."""
        self._tmpfs(folder / name, f"mode={mode:o},uid={uid},gid={uid}", spec)

    def overlay(self, folder: Path, name: str, uid: int, spec: SandboxSpec, lower: Path) -> None:
        """A place to write that shows the files of `lower`, which no change to them reaches."""
        changes, target = folder / f"{name}-changes", folder / name
        self._tmpfs(changes, "mode=0711", spec)
        for part in ("upper", "work"):
            (changes / part).mkdir()
        (changes / "upper").chmod(0o755)
        os.chown(changes / "upper", uid, uid)
        fd = os.open(self._reach(lower), os.O_PATH | os.O_CLOEXEC)  # its path could hold what separates options
        options = f"lowerdir=/proc/self/fd/{fd},upperdir={changes}/upper,workdir={changes}/work,redirect_dir=on"
        try:
            target.mkdir()
            mount("envhub", str(target), "overlay", SAFE, options)
        finally:
            os.close(fd)

    def bind(self, folder: Path, name: str, source: Path) -> None:
        """Another folder of the host, for this sandbox alone."""
        (folder / name).mkdir()
        mount(self._reach(source), str(folder / name), flags=MS_BIND)

    def drop(self, name: str) -> None:
        """Lets go of a sandbox's places. Idempotent."""
        folder = self._top / name
        if folder.is_dir():
            for place in folder.iterdir():
                with suppress(OSError):  # it failed half-way
                    unmount(str(place))
                place.rmdir()
            folder.rmdir()

    def _is_open(self, folder: Path) -> bool:
        return not folder.is_relative_to(self._top) and everybody_may_read(folder)

    def _tmpfs(self, target: Path, options: str, spec: SandboxSpec) -> None:
        target.mkdir()
        bounds = f"size={spec.disk_mb}m,nr_inodes={spec.disk_mb * INODES_PER_MB}"
        mount("envhub", str(target), "tmpfs", SAFE, f"{options},{bounds}")

    def _bind(self, folder: Path) -> Path:
        target = self._top / f"shown-{len(self._shown)}"
        target.mkdir() if folder.is_dir() else target.touch()
        mount(self._reach(folder), str(target), flags=MS_BIND | MS_REC)
        return target

    def _reach(self, path: Path) -> str:
        """A way to the path, past our own cover."""
        if path.is_relative_to(self._top):
            return f"/proc/self/fd/{self._covered}/{path.relative_to(self._top)}"
        return str(path)
