"""Certificates: what a server proves itself with, read again whenever its files have changed.

What changed is found by who connects: a look at the files costs some microseconds, a handshake a thousand. Files that
don't fit each other, as while one of them is being replaced, leave the old ones in use, and a warning in the log.
"""

import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

from envhub.contracts.access import TlsFiles
from envhub.errors import UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")
Seen: TypeAlias = tuple[tuple[int, int, int], ...]  # of each file: inode, size, when it was written


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files hold."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    client_ca: bytes | None


class Certificates:
    """What the files held when they last fitted each other.

    Raises:
        UsageError: they can't be read, or don't fit each other now.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._seen = self._look()
        self.pem, self._context = self._load()

    def refresh(self) -> bool:
        """Reads the files again where they have changed; whether they did, and fit each other."""
        try:
            seen = self._look()
            if seen == self._seen:
                return False
            self._seen = seen
            self.pem, self._context = self._load()
        except UsageError as error:
            logger.warning("the certificate stays as it was: %s", error)
            return False
        return True

    def server_context(self) -> ssl.SSLContext:
        """A context whose every handshake shows the newest certificate. Clients need none: tokens say who they are."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._files.certificate, self._files.private_key, password=_no_password)

        def renew(connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
            self.refresh()
            connection.context = self._context

        context.sni_callback = renew  # called for clients that name no server as well
        return context

    def _look(self) -> Seen:
        files = self._files
        return tuple(_stamp(file) for file in (files.certificate, files.private_key, files.client_ca) if file)

    def _load(self) -> tuple[Pem, ssl.SSLContext]:
        files = self._files
        ca = _read(files.client_ca) if files.client_ca else None
        pem = Pem(_read(files.certificate), _read(files.private_key), ca)
        context = _loaded(files)
        if ca is not None:
            _check_authority(files.client_ca, ca)
        return pem, context


def _loaded(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise UsageError(
            f"certificate '{files.certificate}' and key '{files.private_key}' can't be used ({error}); "
            "give a certificate in PEM and the private key that belongs to it, without a passphrase"
        ) from error
    return context


def _check_authority(file: str, pem: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise UsageError(f"'{file}', which vouches for clients, holds no certificates in PEM ({error})") from error


def _no_password() -> str:
    """For an encrypted key, which would otherwise be asked for on the terminal: a server has none."""
    return ""


def _read(file: str) -> bytes:
    return _tried(file, Path.read_bytes)


def _stamp(file: str) -> tuple[int, int, int]:
    found = _tried(file, Path.stat)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _tried(file: str, act: Callable[[Path], T]) -> T:
    try:
        return act(Path(file))
    except OSError as error:
        raise UsageError(f"'{file}' can't be read: {error.strerror}") from error
