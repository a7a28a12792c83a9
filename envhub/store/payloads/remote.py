"""RemoteObjects: objects in whatever fsspec knows: S3 and what speaks its protocol, Google Cloud, Azure, SFTP, ...

Credentials and the server's address come from where the file system's own library takes them (for S3 AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, ~/.aws, the role of the machine), so that none is ever in our settings, database or messages.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import fsspec  # type: ignore[import-untyped]
from fsspec.asyn import AsyncFileSystem, sync  # type: ignore[import-untyped]

from envhub.errors import Boundary, Fault, UsageError, boundary
from envhub.store.payloads.objects import Object

TIMEOUT_S = 20.0  # of one call

T = TypeVar("T")


def open_remote(url: str, folder: str) -> "RemoteObjects":
    """The objects in that folder below the URL.

    Raises:
        UsageError: no file system has such URLs, or its library is not installed.
    """
    files, root = _file_system(url)
    return RemoteObjects(files, f"{root.rstrip('/')}/{folder}")


@contextmanager
def file_for(url: str) -> Iterator[Path]:
    """A file on this machine, which is copied to the URL at the end.

    Raises:
        UsageError: no file system has such URLs, its library is not installed, or it can't be written there.
    """
    files, path = _file_system(url)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        try:
            with _errors():
                files.pipe_file(path, b"")  # so that it is known before the work
            yield file
            with _errors():
                files.put_file(str(file), path)
        except OSError as error:
            raise UsageError(f"can't write to '{url}': {error}") from error


def _file_system(url: str) -> tuple[Any, str]:
    """What has such URLs, and the path of this one there."""
    scheme = url.split("://", 1)[0]
    try:
        files, path = fsspec.url_to_fs(url, use_listings_cache=False, skip_instance_cache=scheme != "memory")
    except ImportError as error:  # which names what to install
        raise UsageError(f"'{url}' needs a library that is not here: {error}") from error
    except ValueError as error:
        raise UsageError(
            f"nothing can be in '{url}': {error}; name a folder, or a URL like s3://BUCKET/PATH"
        ) from error
    return files, path


class RemoteObjects:
    """An object each, below a prefix by the beginning of its name. Open it with `open_remote`."""

    def __init__(self, files: Any, root: str) -> None:  # Any: fsspec has no types
        self._files = files
        self._root = root

    def put(self, name: str, data: bytes) -> None:
        with _errors():
            if not isinstance(self._files, AsyncFileSystem):  # object stores have no folders to be made
                self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._call("pipe_file", self._path(name), data)

    def get(self, name: str) -> bytes:
        with _errors():
            data: bytes = self._call("cat_file", self._path(name))
            return data

    def remove(self, names: Collection[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError), _errors():
                self._call("rm_file", self._path(name))

    def shard(self, beginning: str) -> Iterator[Object]:
        with _errors():
            found = self._call("find", f"{self._root}/{beginning}", detail=True)
        return (Object(path.rpartition("/")[2], int(facts["size"])) for path, facts in found.items())

    def _path(self, name: str) -> str:
        return f"{self._root}/{name[:2]}/{name}"

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Where it can be, with a limit of time."""
        if isinstance(self._files, AsyncFileSystem):
            call: Callable[..., Any] = getattr(self._files, f"_{method}")
            return sync(self._files.loop, call, *arguments, timeout=TIMEOUT_S, **options)
        return getattr(self._files, method)(*arguments, **options)


@contextmanager
def _errors() -> Iterator[None]:
    """Libraries of object stores raise what they like."""
    try:
        with boundary(Boundary.OPERATOR):
            yield
    except Fault as fault:
        if isinstance(fault.__cause__, OSError):
            raise fault.__cause__ from None
        raise OSError(fault.message) from fault
