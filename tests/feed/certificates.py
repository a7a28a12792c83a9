"""Certificates for tests, made by openssl."""

import shutil
import subprocess
from pathlib import Path

import pytest

NEW = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs certificates of 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file, self._key = folder / "ca.pem", folder / "ca.key"
        openssl(*NEW, "-x509", "-days", 1, "-subj", "/CN=ca", "-keyout", self._key, "-out", self.file)

    @property
    def pem(self) -> bytes:
        return self.file.read_bytes()

    def files(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        key, asked, signed, names = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem", "ext"))
        names.write_text("subjectAltName=IP:127.0.0.1")
        openssl(*NEW, "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        signing = ("-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-days", 1, "-extfile", names)
        openssl("x509", "-req", "-in", asked, "-out", signed, *signing)
        return signed, key

    def issue(self, name: str) -> tuple[bytes, bytes]:
        certificate, key = self.files(name)
        return certificate.read_bytes(), key.read_bytes()


def openssl(*arguments: object) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make certificates with")
    subprocess.run([program, *map(str, arguments)], check=True, capture_output=True, timeout=30)
