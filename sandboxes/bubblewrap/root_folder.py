"""RootFolder: a root file system that the caller unpacked on the host, checked before anything is started in it."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from envhub.errors import UsageError

PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3", "/bin/python3", "/opt/bin/python3")
LEAST_PYTHON = (3, 8)
OURS = frozenset({"proc", "dev", "sys", "tmp", "run", "workspace", ".envhub"})  # not shown: these are the sandbox's own
LINKS = 40  # as the kernel follows at most (path_resolution(7))


@dataclass(frozen=True, slots=True)
class RootFolder:
    """The folder, the path of its Python as seen inside, and that Python's version where its name tells it."""

    folder: Path
    python: str
    version: tuple[int, int] | None

    @classmethod
    def at(cls, image: str) -> "RootFolder":
        """
        Raises:
            UsageError: it is no absolute path, no root file system, or has no Python for the agent to run on.
        """
        folder = Path(image)
        if not folder.is_absolute():
            raise UsageError(
                f"image '{image}' is an engine's name; this back end takes the absolute path of a root file system's "
                "folder (`docker export` and tar unpack an image into one); for names, use the docker back end"
            )
        if not folder.is_dir():
            raise UsageError(f"image '{image}' is not a folder on this machine; unpack a root file system there")
        if not (folder / "usr").is_dir():
            raise UsageError(f"image '{image}' is no root file system: it has no /usr")
        for name in PYTHONS:
            found = resolve(folder, name)
            if found is not None:
                return cls(folder, name, checked_version(image, found))
        raise UsageError(
            f"image '{image}' has no Python: none of {', '.join(PYTHONS)} is a program in it; install python3 "
            f"({'.'.join(map(str, LEAST_PYTHON))} or newer) there, for the agent that runs its commands"
        )

    def entries(self) -> list[Path]:
        """What of its top folder sandboxes see."""
        return sorted(entry for entry in self.folder.iterdir() if entry.name not in OURS)


def checked_version(image: str, program: Path) -> tuple[int, int] | None:
    """
    Raises:
        UsageError: a Python too old for the agent.
    """
    named = re.fullmatch(r"python(\d+)\.(\d+)", program.name)
    version = (int(named[1]), int(named[2])) if named else None
    if version and version < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        raise UsageError(f"image '{image}' has {program.name}; the agent needs Python {least} or newer")
    return version


def resolve(folder: Path, name: str) -> Path | None:
    """The program that `name` stands for where `folder` is the root, its links followed within; None without one."""
    pending, at, links = list(PurePosixPath(name).parts[1:]), PurePosixPath("/"), 0
    while pending:
        part = pending.pop(0)
        at = at.parent if part == ".." else at / part
        real = folder / at.relative_to("/")
        if real.is_symlink():
            links += 1
            target = PurePosixPath(real.readlink())
            at = at.parent
            if target.is_absolute():
                at = PurePosixPath("/")
            pending = [*(part for part in target.parts if part != "/"), *pending]
        if links > LINKS:
            return None
    real = folder / at.relative_to("/")
    usable = real.is_file() and real.stat().st_mode & stat.S_IXOTH
    return real if usable else None
