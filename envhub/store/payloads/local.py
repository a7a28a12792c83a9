"""LocalObjects: objects as files of a folder, which may be on a disk that many machines share."""

import os
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from envhub.store.payloads.objects import Object

_PART = ".part"  # of a file that is being written
_PART_S = 24 * 3600.0  # no file is written for as long: who began it has died


class LocalObjects:
    """A file each, in a sub-folder by the beginning of its name. The folder itself is never made again: where it was
    and is not, a disk is not mounted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, name: str, data: bytes) -> None:
        shard = self._file(name).parent
        shard.mkdir(exist_ok=True)
        descriptor, part = tempfile.mkstemp(_PART, f"{name}.", shard)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(part).replace(self._file(name))
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
        _sync(shard)

    def get(self, name: str) -> bytes:
        return self._file(name).read_bytes()

    def remove(self, names: Collection[str]) -> None:
        for name in names:
            self._file(name).unlink(missing_ok=True)

    def shard(self, beginning: str) -> Iterator[Object]:
        with suppress(FileNotFoundError), os.scandir(self._folder / beginning) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # it has just been removed, or is whole by now
                    facts = entry.stat()
                    if not entry.name.endswith(_PART) or facts.st_mtime < time.time() - _PART_S:
                        yield Object(entry.name, facts.st_size)

    def _file(self, name: str) -> Path:
        return self._folder / name[:2] / name


def _sync(folder: Path) -> None:
    """The names in it are durable, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
