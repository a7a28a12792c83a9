# ruff: noqa: PTH101, PTH114, PTH118, SIM105
# Without pathlib and contextlib, which would double the agent's start-up time.
"""Files below a sandbox's working directory, reached without following what a command may have planted there."""

from __future__ import annotations

import os
import stat


class Refused(Exception):
    """What the host asked for breaks a rule; the message says which."""


class Files:
    """Reads and writes below the working directory. Symlinks are never followed."""

    def __init__(self, workdir: str) -> None:
        self._workdir = os.fsencode(workdir)

    def write(self, path: bytes, data: bytes) -> None:
        fd = self._open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, make_parents=True)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)

    def read(self, path: bytes, max_bytes: int) -> bytes:
        fd = self._open(path, os.O_RDONLY, make_parents=False)
        try:
            size = os.fstat(fd).st_size
            data = b"" if size > max_bytes else os.read(fd, max_bytes + 1)
        finally:
            os.close(fd)
        if max(size, len(data)) > max_bytes:
            raise Refused(f"it holds {size} bytes, over max_bytes {max_bytes}; raise it, or read a part with a command")
        return data

    def _open(self, path: bytes, flags: int, *, make_parents: bool) -> int:
        *parents, name = self._parts(path)
        folder = os.open(self._workdir, os.O_DIRECTORY)
        try:
            for parent in parents:
                inner = self._enter(folder, parent, make_parents)
                os.close(folder)
                folder = inner
            # O_NONBLOCK: a FIFO must not hold the agent up.
            fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644, dir_fd=folder)
        except NotADirectoryError:
            raise Refused("its path passes through a symlink or a file") from None
        finally:
            os.close(folder)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Refused("it is not a regular file")
        return fd

    def _enter(self, folder: int, name: bytes, make: bool) -> int:
        if make:
            try:
                os.mkdir(name, dir_fd=folder)
            except FileExistsError:
                pass
        return os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)

    def _parts(self, path: bytes) -> list[bytes]:
        inside = path.removeprefix(self._workdir + b"/")
        parts = [part for part in inside.split(b"/") if part not in (b"", b".")]
        if inside.startswith(b"/") or b".." in parts or not parts:
            raise Refused("it must lie below the working directory, and be named without '..'")
        return parts


def remove_tree(path: str) -> None:
    """Removes a directory, also where a command took the rights away from parts of it."""
    import shutil  # 7 ms, which only an end needs

    for folder, names, _ in os.walk(path):
        for name in names:
            inner = os.path.join(folder, name)
            if not os.path.islink(inner):
                os.chmod(inner, 0o700)
    shutil.rmtree(path, ignore_errors=True)
