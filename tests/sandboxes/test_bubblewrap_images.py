"""A root file system's folder serves as bubblewrap's image: its programs, its Python, and nothing of the host's."""

import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envhub.contracts.sandbox import SandboxSpec
from envhub.errors import UsageError
from envhub.testing.sandbox_suite import shell
from sandboxes.bubblewrap.backend import BubblewrapBackend

pytestmark = [pytest.mark.anyio, pytest.mark.sandboxes]

PYTHON = Path("/usr/bin/python3")
PROGRAMS = ("sh", "cat", "ls", "id", "touch")


@pytest.fixture
async def backend() -> AsyncIterator[BubblewrapBackend]:
    made = BubblewrapBackend()
    if not (await made.probe()).works:
        pytest.skip("no bubblewrap here")
    yield made
    await made.aclose()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small root file system, of a few programs and a Python of this machine's."""
    if not PYTHON.exists():
        pytest.skip(f"needs {PYTHON} to make a root file system of")
    root = tmp_path_factory.mktemp("image")
    programs = [Path(str(shutil.which(name))).resolve() for name in PROGRAMS]
    for program, name in (*zip(programs, PROGRAMS, strict=True), (PYTHON.resolve(), PYTHON.resolve().name)):
        copy(program, root / "usr" / "bin" / name)
    standard = Path("/usr/lib") / PYTHON.resolve().name
    for linked in (*programs, PYTHON.resolve(), *standard.glob("lib-dynload/_ctypes.*")):
        for library in re.findall(r"(/\S+) \(0x", subprocess.check_output(["ldd", linked], text=True)):
            copy(Path(library), root / library[1:])
    (root / "usr" / "bin" / "python3").symlink_to(PYTHON.resolve().name)
    (root / "bin").symlink_to("usr/bin")
    shutil.copytree(standard, root / "usr" / "lib" / standard.name, ignore=shutil.ignore_patterns("test", "config-*"))
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\n")
    (root / "etc" / "release").write_text("of the image\n")
    for folder in ("proc", "workspace", "data"):
        (root / folder).mkdir()
    for path in root.rglob("*"):
        path.chmod(0o755)  # whatever the umask
    return root


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


async def test_commands_see_the_image_and_not_the_host(backend: BubblewrapBackend, image: Path) -> None:
    sandbox = await backend.create(SandboxSpec(image=str(image)))
    seen = await shell(sandbox, "cat /etc/release; ls /; ls /usr/bin; id -un")
    assert seen.exit_code == 0, seen.stderr
    release, *names = seen.stdout.decode().split("\n")
    assert release == "of the image"
    assert set(names) >= {"data", "etc", "proc", "usr", "workspace", "sandbox", *PROGRAMS}
    assert "env" not in names
    assert (await shell(sandbox, "touch /usr/x || touch /data/x || touch /x || touch /.envhub/x")).exit_code != 0


async def test_image_has_sessions_files_and_forks(backend: BubblewrapBackend, image: Path) -> None:
    spec = SandboxSpec(image=str(image))
    sandbox = await backend.create(spec)
    await sandbox.write("folder/file", b"text")
    snapshot = await sandbox.snapshot()
    fork = await backend.create(spec, files=snapshot)
    await snapshot.close()
    result = await shell(fork, "cat folder/file; python3 -c 'import json, sys; print(json.dumps(sys.version_info[0]))'")
    assert (result.stdout, result.stderr) == (b"text3\n", b"")


async def test_unusable_images_are_refused_before_anything_starts(backend: BubblewrapBackend, tmp_path: Path) -> None:
    (tmp_path / "usr").mkdir()
    before = open_descriptors()
    for name, reason in (
        ("python:3.12", "engine's name"),
        (str(tmp_path / "none"), "not a folder"),
        (str(tmp_path), "no Python"),
    ):
        with pytest.raises(UsageError, match=reason):
            await backend.create(SandboxSpec(image=name))
    assert open_descriptors() == before


async def test_image_that_only_its_owner_may_enter_serves_all_the_same(backend: BubblewrapBackend, image: Path) -> None:
    assert os.stat(image).st_mode & 0o777 == 0o700  # noqa: PTH116
    sandbox = await backend.create(SandboxSpec(image=str(image)))
    assert (await shell(sandbox, "cat /etc/release")).stdout == b"of the image\n"
