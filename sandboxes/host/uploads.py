"""What is copied into a sandbox: a folder's or an archive's members, all checked before the first byte is sent."""

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from envhub.errors import UsageError
from sandboxes.inside.trees import CHUNK, FILE, FOLDER, Unfit, entry
from sandboxes.inside.unpacker import checked

UNREADABLE = (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder of what is uploaded."""

    path: str
    permissions: int
    size: int = 0
    open: Callable[[], IO[bytes] | None] | None = None  # None: a folder


class Source:
    """A folder or archive whose members may all be written. To be closed."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        """
        Raises:
            UsageError: no such source, or a member that breaks a rule.
        """
        self._path = path
        self._stack = ExitStack()
        try:
            self._members = [fit(member, path) for member in self._find()]
        except UNREADABLE as error:
            self.close()
            raise UsageError(f"upload of '{path}' failed: {describe(error)}") from error
        except BaseException:
            self.close()
            raise
        size = sum(member.size for member in self._members)
        if size > max_bytes:
            self.close()
            raise UsageError(
                f"'{path}' holds {size} bytes, over the {max_bytes} of the sandbox's disk_mb; raise it, or upload less"
            )

    def parts(self) -> Iterator[bytes]:
        """A stream as trees.Unpacker takes it.

        Raises:
            UsageError: the source can't be read, or has changed since it was checked.
        """
        buffer, made = bytearray(), set[str]()
        try:
            for member in self._members:
                for piece in pieces(member, made):
                    buffer += piece
                    while len(buffer) >= CHUNK:
                        yield bytes(buffer[:CHUNK])
                        del buffer[:CHUNK]
        except UNREADABLE as error:
            raise UsageError(f"upload of '{self._path}' failed: {describe(error)}") from error
        yield bytes(buffer)

    def close(self) -> None:
        self._stack.close()

    def _find(self) -> Iterator[Member]:
        if self._path.is_dir():
            return of_folder(self._path)
        if zipfile.is_zipfile(self._path):
            return of_zip(self._stack.enter_context(zipfile.ZipFile(self._path)))
        try:
            return of_tar(self._stack.enter_context(tarfile.open(self._path)))
        except tarfile.ReadError:
            raise UsageError(f"'{self._path}' is neither a folder nor a tar or zip archive") from None


def of_folder(root: Path) -> Iterator[Member]:
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            inner = str(path.relative_to(root))
            permissions = stat.S_IMODE(status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                yield Member(inner, permissions)
            elif stat.S_ISREG(status.st_mode):
                yield Member(inner, permissions, status.st_size, lambda path=path: path.open("rb"))  # type: ignore[misc]
            else:
                raise refusal(inner, root)


def of_tar(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if info.isdir():
            yield Member(info.name, info.mode)
        elif info.isreg():
            yield Member(info.name, info.mode, info.size, lambda info=info: archive.extractfile(info))  # type: ignore[misc]
        else:
            raise refusal(info.name, archive.name)


def of_zip(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise refusal(info.filename, archive.filename)
        if info.flag_bits & 1:
            raise UsageError(f"'{info.filename}' of '{archive.filename}' is encrypted; upload what it holds instead")
        if info.is_dir():
            yield Member(info.filename, stat.S_IMODE(mode) or 0o755)
        else:
            opened = lambda info=info: archive.open(info)  # noqa: E731
            yield Member(info.filename, stat.S_IMODE(mode) or 0o644, info.file_size, opened)


def refusal(member: str, source: object) -> UsageError:
    return UsageError(
        f"'{member}' of '{source}' is a link, a device or the like; only files and folders go into a sandbox"
    )


def fit(member: Member, source: Path) -> Member:
    """
    Raises:
        UsageError: its path leads out of the folder that it is written to.
    """
    parts = [part for part in member.path.split("/") if part != "."]
    path = "/".join(parts).rstrip("/")
    if path or member.open:
        try:
            checked(os.fsencode(path))
        except Unfit as error:
            raise UsageError(f"upload of '{source}' failed: {error}") from None
    return Member(path, member.permissions, member.size, member.open)


def pieces(member: Member, made: set[str]) -> Iterator[bytes]:
    """A member as it goes into the stream, after the folders above it that archives may leave out."""
    parents = member.path.split("/")
    for depth in range(1, len(parents)):
        parent = "/".join(parents[:depth])
        if parent not in made:
            made.add(parent)
            yield entry(FOLDER, os.fsencode(parent), 0o755, 0)
    if member.open is None:
        if member.path:  # an archive may list the folder itself
            made.add(member.path)
            yield entry(FOLDER, os.fsencode(member.path), member.permissions & 0o777 | 0o700, 0)
        return
    yield entry(FILE, os.fsencode(member.path), member.permissions & 0o777, member.size)
    yield from content(member)


def content(member: Member) -> Iterator[bytes]:
    """
    Raises:
        OSError: there is less of it than was said.
    """
    left = member.size
    file = member.open() if member.open else None
    if file is None:
        return
    with file:
        while left:
            data = file.read(min(left, CHUNK))
            if not data:
                raise OSError(f"'{member.path}' became shorter while it was read")
            left -= len(data)
            yield data


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
