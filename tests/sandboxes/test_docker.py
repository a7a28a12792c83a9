"""Docker and Podman pass the suite, and hold what a container engine leaves open by default.

The engines are those of DOCKER_HOST and CONTAINER_HOST, else the machine's own. Where one is missing its tests are
skipped, unless ENVHUB_REQUIRE_CONTAINERS is 1. `.ci/engines start DIR` makes both; ENVHUB_ENGINES=DIR lets the tests
that end a daemon end that one.
"""

import errno
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import anyio
import docker
import pytest
from docker.errors import APIError

from envhub.contracts.command import ExecRequest
from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import Probe, Sandbox, SandboxSpec
from envhub.errors import SandboxFault, UsageError
from envhub.testing.sandbox_suite import SandboxSuite, python, shell
from envhub.testing.sandbox_suite.base import Base
from envhub.testing.sandbox_suite.commands import Commands
from envhub.testing.sandbox_suite.isolation import Isolation
from envhub.testing.sandbox_suite.life import Life
from envhub.testing.sandbox_suite.limits import Limits
from envhub.testing.sandbox_suite.snapshots import Snapshots
from envhub.testing.sandbox_suite.streams import Streams
from sandboxes import seccomp
from sandboxes.docker.backend import DockerBackend, PodmanBackend
from sandboxes.docker.engine import connect
from sandboxes.docker.gvisor import GvisorBackend
from sandboxes.state import state
from tests.sandboxes.containers import need

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
CALLS = """
import ctypes, json, socket
call = ctypes.CDLL(None, use_errno=True).syscall

def errno_of(*arguments):
    return ctypes.get_errno() if call(*arguments, 0, 0, 0, 0, 0) == -1 else 0

def errno_of_socket(family):
    try:
        socket.socket(family, socket.SOCK_STREAM).close()
        return 0
    except OSError as error:
        return error.errno

numbers = json.load(open("calls.json"))
outcomes = {kind: [errno_of(number) for number in numbers[kind]] for kind in ("denied", "hidden")}
outcomes |= {"vsock": errno_of_socket(40), "inet": errno_of_socket(2)}
outcomes["new user namespace"] = errno_of(numbers["clone"], 0x10000000 | 17)
print(json.dumps(outcomes))
"""
PAGE = b"""<title>page</title><body style="background: gold"><h1>A page in a sandbox</h1>
<input autofocus oninput="document.title = this.value">"""
USE_DESKTOP = """
start-desktop 1280x800 || exit 1
chromium --no-sandbox --disable-dev-shm-usage --disable-gpu --no-first-run --user-data-dir=/tmp/chromium \\
    --start-maximized file://$PWD/page.html > /tmp/chromium.log 2>&1 &
xdotool search --sync --onlyvisible --name '^page' windowfocus --sync
until xdotool search --onlyvisible --name '^typed' > /dev/null; do xdotool key ctrl+a type typed; sleep 0.2; done
scrot screen.png
"""
AS_NOBODY = """
import sys, anyio
from sandboxes import seccomp
from sandboxes.docker.backend import DockerBackend
print(anyio.run(DockerBackend(sys.argv[1]).probe).detail)
"""


def numbers() -> dict[str, object]:
    """The system calls of this machine that our filter denies, and those that it hides."""
    column = seccomp.MACHINES[platform.machine()]
    denied, hidden = ([row[column] for row in table.values()] for table in (seccomp.DENIED, seccomp.HIDDEN))
    return {"denied": denied, "hidden": hidden, "clone": seccomp.CLONE[column]}


def containers(backend: DockerBackend) -> list[str]:
    """The names of this process's containers that the engine has, running or not."""
    with docker_client(backend) as client:
        found = client.containers(all=True, filters={"label": f"envhub.owner={state().owner}"})
    return [name for container in found for name in container["Names"]]


def docker_client(backend: DockerBackend) -> docker.APIClient:
    return connect(backend._engine.path)


class OnAnEngine(Base):
    """What holds for every engine beyond the suite."""

    kind: type[DockerBackend] = DockerBackend

    @pytest.fixture
    async def backend(self) -> AsyncIterator[DockerBackend]:
        await need(self.kind)
        backend = self.kind()
        yield backend
        await backend.aclose()
        assert containers(backend) == []

    async def test_isolation_is_not_skipped(self, probe: Probe) -> None:
        assert probe.isolates
        assert all(probe.limits.values())

    async def test_kernel_interfaces_that_engines_leave_open_are_filtered(self, sandbox: Sandbox) -> None:
        await sandbox.write("calls.json", json.dumps(numbers()).encode())
        result = await python(sandbox, CALLS)
        assert result.exit_code == 0, result.stderr
        outcomes = json.loads(result.stdout)
        assert set(outcomes.pop("denied")) == {errno.EPERM}
        assert set(outcomes.pop("hidden")) == {errno.ENOSYS}
        assert outcomes == {"vsock": errno.EPERM, "inet": 0, "new user namespace": errno.EPERM}

    async def test_command_has_no_privilege_and_cannot_gain_one(self, sandbox: Sandbox) -> None:
        status = (await shell(sandbox, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")).stdout.decode()
        fields = dict(line.split(":\t") for line in status.splitlines())
        assert {fields[name] for name in fields if name.startswith("Cap")} == {"0" * 16}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")

    async def test_each_sandbox_is_a_user_of_its_own(self, backend: DockerBackend, sandbox: Sandbox) -> None:
        other = await backend.create(SandboxSpec())
        uids = {(await shell(one, "id -u")).stdout for one in (sandbox, other)}
        await other.close()
        assert len(uids) == 2
        assert min(map(int, uids)) >= 1000

    async def test_only_bounded_places_can_be_written(self, backend: DockerBackend) -> None:
        sandbox = await backend.create(SandboxSpec(disk_mb=8))
        found = await shell(sandbox, "find / -xdev -writable -not -type l 2>/dev/null | sort")
        places = ("/workspace", "/tmp", "/var/tmp", "/dev/shm")
        fill = "for name in a b; do head -c 5000000 /dev/zero > {}/$name; done"
        written = [await shell(sandbox, fill.format(place)) for place in places]
        await sandbox.close()
        assert found.stdout.split() == [b"/tmp", b"/var/tmp", b"/workspace"]
        assert all(b"No space left" in one.stderr for one in written), written

    async def test_nothing_of_the_engine_is_seen(self, sandbox: Sandbox) -> None:
        seen = await shell(sandbox, "ls /run /var/run; find / -name '*.sock' -not -path '/proc/*' 2>/dev/null")
        assert b"sock" not in seen.stdout

    async def test_writing_to_the_screen_of_the_engine_is_not_possible(self, sandbox: Sandbox) -> None:
        result = await shell(sandbox, "echo forged > /proc/1/fd/1; echo forged > /proc/1/fd/2; ls /proc/1/fd")
        assert result.stdout == b""
        assert result.stderr.count(b"ermission denied") == 3

    async def test_network_full_is_the_hosts(self, backend: DockerBackend) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            sandbox = await backend.create(SandboxSpec(network=Network(NetworkMode.FULL)))
            code = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 5)"
            result = await python(sandbox, code)
            await sandbox.close()
        assert result.exit_code == 0, result.stderr

    async def test_forks_share_what_they_do_not_write(self, backend: DockerBackend, sandbox: Sandbox) -> None:
        await shell(sandbox, "mkdir d; echo origin > d/file; chmod 700 d/file")
        snapshot = await sandbox.snapshot()
        forks = [await backend.create(SandboxSpec(disk_mb=8), files=snapshot) for _ in range(2)]
        await snapshot.close()
        await forks[0].write("hidden", b"answer")
        changed = await shell(forks[0], "echo fork > d/file; rm -f d/none; chmod 644 d/file; cat d/file")
        kept = [await shell(one, "cat d/file; ls hidden") for one in (sandbox, forks[1])]
        filled = await shell(forks[0], "for name in a b; do head -c 5000000 /dev/zero > $name; done")
        shown = await shell(forks[0], "stat -f -c %T /workspace")
        for fork in forks:
            await fork.close()
        assert changed.stdout == b"fork\n"
        assert [one.stdout for one in kept] == [b"origin\n", b"origin\n"]
        assert b"No space left" in filled.stderr
        assert shown.stdout == (b"overlayfs\n" if os.geteuid() == 0 else b"tmpfs\n")
        assert "fork" not in await anyio.Path("/proc/mounts").read_text()

    async def test_killed_container_is_a_fault_and_the_next_sandbox_works(self, backend: DockerBackend) -> None:
        sandbox = await backend.create(SandboxSpec())
        with docker_client(backend) as client, suppress(APIError):  # Podman may have removed it before it answers
            client.kill(f"envhub-{sandbox.id}")
        with pytest.raises(SandboxFault):
            for _ in range(50):
                await shell(sandbox, "sleep 0.1")
        await sandbox.close()
        await works(backend)

    async def test_cancelled_creation_leaves_no_container(self, backend: DockerBackend) -> None:
        await works(backend)
        for delay_s in (0.0, 0.01, 0.05, 0.1, 0.2):
            with anyio.move_on_after(delay_s):
                await (await backend.create(SandboxSpec())).close()
        assert containers(backend) == []

    async def test_sandboxes_are_made_side_by_side(self, backend: DockerBackend) -> None:
        async with anyio.create_task_group() as group:
            for _ in range(6):
                group.start_soon(works, backend)

    async def test_port_of_the_host_is_reached_where_the_network_allows_it(self, backend: DockerBackend) -> None:
        sandbox = await backend.create(SandboxSpec(network=Network(NetworkMode.GATEWAY)))
        with socket.create_server(("127.0.0.1", 0)) as server:
            endpoint = await sandbox.forward("127.0.0.1", server.getsockname()[1])
            host, _, port = endpoint.rpartition(":")
            code = f"import socket; socket.create_connection(('{host}', {port}), 5).sendall(b'hello')"
            result = await python(sandbox, code)
            connection, _ = await anyio.to_thread.run_sync(server.accept)
            with connection:
                assert await anyio.to_thread.run_sync(connection.recv, 5) == b"hello"
        await sandbox.close()
        assert result.exit_code == 0, result.stderr

    async def test_missing_image_is_refused(self, backend: DockerBackend) -> None:
        with pytest.raises(UsageError, match=r"has no image 'nobody/has-this'; pull or build it first"):
            await backend.create(SandboxSpec(image="nobody/has-this"))

    async def test_image_without_python_is_refused(self, backend: DockerBackend) -> None:
        with docker_client(backend) as client:
            client.import_image_from_data(b"\0" * 10240, repository="envhub/empty")
        with pytest.raises(UsageError, match="image 'envhub/empty' has no python3 on its PATH; install one there"):
            await backend.create(SandboxSpec(image="envhub/empty"))

    async def test_folder_as_an_image_is_refused(self, backend: DockerBackend) -> None:
        with pytest.raises(UsageError, match=r"image '/srv/root' is a folder, and .* runs images"):
            await backend.create(SandboxSpec(image="/srv/root"))


@pytest.mark.containers
class TestDockerBackend(OnAnEngine, SandboxSuite):
    async def test_desktop_shows_a_browser_that_can_be_typed_into(self, backend: DockerBackend, tmp_path: Path) -> None:
        sandbox = await backend.create(SandboxSpec(image="envhub/desktop", memory_mb=1024, disk_mb=256, pids=256))
        await sandbox.write("page.html", PAGE)
        result = await shell(sandbox, USE_DESKTOP, timeout_s=45)
        assert result.exit_code == 0, result
        await sandbox.download("screen.png", tmp_path / "screen.png")
        await sandbox.close()
        picture = await anyio.Path(tmp_path / "screen.png").read_bytes()
        assert struct.unpack(">II", picture[16:24]) == (1280, 800)
        assert len(picture) > 10_000  # more than one colour


@pytest.mark.containers
class TestPodmanBackend(OnAnEngine, Commands, Streams, Snapshots, Limits, Life, Isolation):
    """Without what the agent does alone, over the same stream as in Docker's containers: sessions, files and trees."""

    kind = PodmanBackend


async def works(backend: DockerBackend) -> None:
    sandbox = await backend.create(SandboxSpec())
    result = await shell(sandbox, "echo hello")
    await sandbox.close()
    assert result.stdout == b"hello\n"


@pytest.mark.containers
@pytest.mark.anyio
async def test_daemon_killed_and_restarted_costs_its_sandboxes_and_no_more() -> None:
    await need(DockerBackend)
    engines = os.environ.get("ENVHUB_ENGINES", "")
    if not engines:
        pytest.skip("ends a daemon, so it needs one of its own: ENVHUB_ENGINES")
    backend = DockerBackend(f"unix://{engines}/docker.sock")
    sandbox = await backend.create(SandboxSpec())
    os.kill(int(await anyio.Path(engines, "docker.pid").read_text()), signal.SIGKILL)
    with pytest.raises(SandboxFault):
        for _ in range(100):
            await sandbox.exec(ExecRequest(("sleep", "0.1")))
    with pytest.raises(SandboxFault, match=r"nobody answers at|stopped answering"):
        await backend.create(SandboxSpec())
    await sandbox.close()
    await anyio.run_process([str(REPOSITORY / ".ci" / "engines"), "docker", engines])
    await works(backend)
    assert containers(backend) == []
    await backend.aclose()


@pytest.mark.containers
@pytest.mark.anyio
async def test_gvisor_runs_commands_in_a_kernel_of_its_own() -> None:
    await need(GvisorBackend)
    backend = GvisorBackend()
    sandbox = await backend.create(SandboxSpec())
    kernel = (await shell(sandbox, "uname -r")).stdout.decode().strip()
    await sandbox.close()
    await backend.aclose()
    assert kernel != os.uname().release


@pytest.mark.anyio
async def test_absent_engine_is_one_clear_line(tmp_path: Path) -> None:
    probe = await DockerBackend(f"unix://{tmp_path}/none.sock").probe()
    assert (probe.works, probe.isolates) == (False, False)
    assert probe.detail == f"docker: there is no socket {tmp_path}/none.sock; start the engine, or name another socket"


@pytest.mark.anyio
async def test_usual_place_that_an_unset_variable_names_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("CONTAINER_HOST", raising=False)
    assert PodmanBackend()._engine.path == "/run/podman/podman.sock"


@pytest.mark.anyio
async def test_silent_engine_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    probe = await PodmanBackend(f"unix://{tmp_path}/dead.sock").probe()
    assert probe.detail == f"podman: nobody answers at {tmp_path}/dead.sock (Connection refused); start the engine"


@pytest.mark.anyio
async def test_remote_engine_is_refused_with_the_way_out() -> None:
    probe = await DockerBackend("tcp://farm:2375").probe()
    assert probe.detail.startswith("container engine 'tcp://farm:2375' is no unix socket, and sandboxes use no other")
    assert "ssh -nNT -L" in probe.detail


def test_socket_of_somebody_else_is_one_clear_line(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with socket.socket(socket.AF_UNIX) as theirs:
        theirs.bind(str(tmp_path / "root.sock"))
        (tmp_path / "root.sock").chmod(0o600)
        modules = [path for path in sys.path if path.endswith("site-packages")]
        done = subprocess.run(
            ["/usr/bin/python3", "-B", "-c", AS_NOBODY, f"unix://{tmp_path}/root.sock"],
            env={"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *modules])},
            capture_output=True,
            text=True,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            timeout=30,
        )
    assert "no permission to use" in done.stdout, done.stderr
    assert "join the group that owns it" in done.stdout
