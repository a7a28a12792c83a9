"""Packages: what environments require beside envhub's own, in a folder for each set of requirements, made when it is
first needed on a machine and kept for every run after."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from envhub.errors import UsageError

INSTALL_S = 900.0
SHOWN_CHARACTERS = 500  # the last of what an installer said


def environment_with(requires: Sequence[str]) -> dict[str, str]:
    """Environment variables of a process that has these packages. Blocks until they are there.

    Raises:
        UsageError: they can't be installed here.
    """
    if not requires:
        return dict(os.environ)
    before = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(folder_with(requires)), before]))}


def folder_with(requires: Sequence[str]) -> Path:
    """
    Raises:
        UsageError: they can't be installed here.
    """
    folder = _kept() / sha256("\n".join([*requires, sys.version, sysconfig.get_platform()]).encode()).hexdigest()[:16]
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder.parent) as making:
            _install(requires, making)
            try:
                Path(making).rename(folder)
            except OSError:
                if not folder.is_dir():  # else somebody else was quicker
                    raise
            Path(making).mkdir(exist_ok=True)  # its end removes it
    return folder


def _kept() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "envhub" / "packages"


def _install(requires: Sequence[str], folder: str) -> None:
    try:
        done = subprocess.run(
            [*_installer(), "--quiet", "--target", folder, *requires],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UsageError(f"can't install {', '.join(requires)}: it took longer than {INSTALL_S:g} s") from None
    if done.returncode:
        said = " ".join(done.stdout.split())[-SHOWN_CHARACTERS:]
        raise UsageError(f"can't install {', '.join(requires)}: {said}")


def _installer() -> list[str]:
    """
    Raises:
        UsageError: there is none.
    """
    if find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", sys.executable]
    raise UsageError(f"can't install packages: {sys.executable} has no pip, and there is no uv; install one of them")
