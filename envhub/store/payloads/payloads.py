"""Payloads: bytes by their SHA-256, in a place that may be slow, away for a while, or wrong.

What comes back is what was put: its hash is checked. A place that does not answer is tried again for a minute; what
waiting can't mend (credentials, a full disk) is said at once.
"""

import errno
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from hashlib import sha256 as sha256_of
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from envhub.errors import StoreError
from envhub.store.payloads.objects import Object, Objects

PATIENCE_S = 60.0  # with a place that does not answer,
PROBE_PATIENCE_S = 5.0  # and before there is anything to lose
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 5.0  # between tries
AT_ONCE = 16  # calls, a thread each

T = TypeVar("T")

_PERMANENT = (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
_MEANING = {
    errno.ENOSPC: "its disk is full: make room, then go on with the run (`envhub run --resume`)",
    errno.EDQUOT: "its quota is used up: make room, then go on with the run (`envhub run --resume`)",
    errno.EROFS: "it is mounted read-only: name another place",
}


class Payloads:
    """Those of one store, in one place."""

    def __init__(self, objects: Objects, url: str, folder: str, *, patience_s: float = PATIENCE_S) -> None:
        self.url = url
        self.folder = folder  # below it
        self.objects = objects
        self._patience_s = patience_s
        self._limiter = CapacityLimiter(AT_ONCE)

    async def put(self, payloads: Mapping[str, bytes]) -> None:
        """All of them are durable there, once it returns.

        Raises:
            StoreError: they can't be put, or not within a minute.
        """
        await self._each(self._put, payloads.items())

    async def get(self, hashes: Collection[str]) -> dict[str, bytes]:
        """By hash.

        Raises:
            StoreError: one of them is not there, damaged, or could not be fetched within a minute.
        """
        found: dict[str, bytes] = {}

        def fetch(sha256: str) -> None:
            found[sha256] = self.fetch(sha256)

        await self._each(fetch, [(sha256,) for sha256 in hashes])
        return found

    def fetch(self, sha256: str) -> bytes:
        """One of them, for who may block."""
        data = self._patiently(partial(self.objects.get, sha256), f"payload {sha256} can't be read from")
        if sha256_of(data).hexdigest() != sha256:
            raise StoreError(
                f"payload {sha256} in '{self.url}' is damaged: its {len(data)} bytes have another SHA-256; bring it "
                "back from a copy"
            )
        return data

    def remove(self, hashes: Collection[str]) -> None:
        """Those of them that are there; for who may block, but not for long: it is tried once.

        Raises:
            StoreError: they can't be removed.
        """
        self._tried(partial(self.objects.remove, hashes), "payloads can't be removed from", until=0.0)

    def shard(self, beginning: str) -> list[Object]:
        """What is there; for who may block.

        Raises:
            StoreError: the place does not say.
        """
        return self._patiently(lambda: list(self.objects.shard(beginning)), "payloads can't be listed in")

    async def probe(self) -> None:
        """Finds what would keep payloads from being written, read and removed.

        Raises:
            StoreError: something does.
        """
        data = b"envhub writes, reads and removes this to see whether it can"
        name = sha256_of(data).hexdigest()
        patient = Payloads(self.objects, self.url, self.folder, patience_s=PROBE_PATIENCE_S)
        await patient.put({name: data})
        await patient.get([name])
        await to_thread.run_sync(patient.remove, [name])

    def _put(self, sha256: str, data: bytes) -> None:
        self._patiently(partial(self.objects.put, sha256, data), f"payload {sha256} can't be written to")

    async def _each(self, work: Callable[..., None], items: Collection[tuple[object, ...]]) -> None:
        """Of each item, in threads; the first failure ends what has not begun."""
        failures: list[StoreError] = []

        async def one(*item: object) -> None:
            try:
                await to_thread.run_sync(work, *item, limiter=self._limiter)
            except StoreError as error:
                failures.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for item in items:
                tasks.start_soon(one, *item)
        if failures:
            raise failures[0]

    def _patiently(self, call: Callable[[], T], what: str) -> T:
        return self._tried(call, what, until=time.monotonic() + self._patience_s)

    def _tried(self, call: Callable[[], T], what: str, *, until: float) -> T:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return call()
            except OSError as error:
                if _is_final(error) or time.monotonic() > until:
                    raise StoreError(f"{what} '{self.url}': {_said(error)}") from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_final(error: OSError) -> bool:
    return isinstance(error, _PERMANENT) or error.errno in _MEANING


def _said(error: OSError) -> str:
    if meaning := _MEANING.get(error.errno or 0):
        return meaning
    if isinstance(error, PermissionError):
        return f"it does not let us ({error}); check the credentials in the environment, and their rights"
    if isinstance(error, FileNotFoundError):
        return f"it is not there ({error}); make the bucket or folder, or bring back what was in it"
    if _is_final(error):
        return f"{error}; name another place"
    return f"it does not answer ({error}); bring it back, then go on with the run (`envhub run --resume`)"
