"""What a root process does so that a sandbox never runs as root: another uid for each, and a Python it may read."""

import ctypes
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from envhub.errors import SandboxFault
from sandboxes.inside.processes import LIBC

# Above what distributions give to users and container managers, below where 32-bit signed uids end.
UIDS = (1_900_000_000, 2_100_000_000)
UID_MAP = Path("/proc/self/uid_map")
VIEW = Path("/mnt")

CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE = 0x00020000, 0x1000, 0x4000, 1 << 19


def lease_uid() -> int | None:
    """A uid for one sandbox; None for an unprivileged user, who keeps its own.

    Drawn at random: workers of one machine need not agree, and two sandboxes that met on a uid would still have
    namespaces of their own between them.

    Raises:
        SandboxFault: root of a user namespace that maps too few uids.
    """
    if os.geteuid() != 0:
        return None
    rows = [tuple(map(int, row.split())) for row in UID_MAP.read_text().splitlines()]
    end = max(first + count for first, _, count in rows)
    low, high = UIDS if end >= UIDS[1] else (end // 2, end - 2)
    if low < 1000:
        raise SandboxFault(f"root of a user namespace with {end} uids has none to spare; run as an ordinary user")
    return low + secrets.randbelow(high - low)


def everybody_may_read(path: Path) -> bool:
    """Whether any user may list the folder and pass through those above it."""
    passable = all(part.stat().st_mode & stat.S_IXOTH for part in (path, *path.parents))
    return passable and bool(path.stat().st_mode & stat.S_IROTH)


def open_view(folder: Path) -> Path:
    """Makes `folder` reachable for every user at another place, in a mount namespace of the calling thread's own.

    Raises:
        SandboxFault: the process has not the capability (CAP_SYS_ADMIN) to.
    """
    steps: tuple[Callable[[], int], ...] = (
        lambda: LIBC.unshare(CLONE_NEWNS),
        lambda: LIBC.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None),
        lambda: LIBC.mount(os.fsencode(folder), os.fsencode(VIEW), None, MS_BIND | MS_REC, None),
    )
    for step in steps:
        if step():
            reason = os.strerror(ctypes.get_errno())
            raise SandboxFault(
                f"Python lies in {folder}, which only root may enter, and showing it to sandboxes failed: {reason}; "
                "install Python where every user may read it, such as /usr/local, or run as an ordinary user"
            )
    return VIEW
