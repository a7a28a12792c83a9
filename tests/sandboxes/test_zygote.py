"""The zygote passes the suite, as root and as an ordinary user; its children share nothing but a root to read."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import psutil
import pytest

from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import Probe, Sandbox, SandboxSpec
from envhub.errors import SandboxFault, UsageError
from envhub.testing.sandbox_suite import SandboxSuite, new_mark, python, shell, until_marked
from sandboxes.zygote import backend as zygote
from sandboxes.zygote.backend import ZygoteBackend

REPOSITORY = Path(__file__).parents[2]
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65534
SOON_S = 5.0
AS_NOBODY = """
import os, anyio
from envhub.contracts.command import ExecRequest
from envhub.contracts.sandbox import SandboxSpec
from sandboxes.zygote.backend import ZygoteBackend

async def main():
    backend = ZygoteBackend()
    probe = await backend.probe()
    assert probe.works and probe.isolates, probe.detail
    sandbox = await backend.create(SandboxSpec())
    await sandbox.write("kept", b"before")
    snapshot = await sandbox.snapshot()
    fork = await backend.create(SandboxSpec(), files=snapshot)
    script = "cat kept; echo after > kept; rm kept; id -u; grep -h -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status"
    result = await fork.exec(ExecRequest(("sh", "-c", script)))
    print(os.getuid(), await sandbox.read("kept"), result.stdout.decode().split())
    await snapshot.close()
    await backend.aclose()

anyio.run(main)
"""


def zygotes() -> list[psutil.Process]:
    """What of ours has not ended: the process that starts the zygote, the zygote, then its children."""
    ours = psutil.Process().children(recursive=True)
    return [one for one in ours if one.status() != psutil.STATUS_ZOMBIE and "inside.zygote" in " ".join(one.cmdline())]


def descriptors(process: psutil.Process) -> set[str]:
    names = {str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()}
    return names - {"/dev/null"}


def environment(process: psutil.Process) -> str:
    return Path(f"/proc/{process.pid}/environ").read_text()


async def until_gone(processes: list[psutil.Process]) -> None:
    with anyio.fail_after(SOON_S):
        await anyio.to_thread.run_sync(psutil.wait_procs, processes, SOON_S)


@pytest.mark.sandboxes
class TestZygoteBackend(SandboxSuite):
    @pytest.fixture
    async def backend(self) -> AsyncIterator[ZygoteBackend]:
        backend = ZygoteBackend()
        await (await backend.create(SandboxSpec())).close()  # from here on it has a zygote
        yield backend
        await backend.aclose()
        assert not zygotes()

    async def test_isolation_is_not_skipped(self, probe: Probe) -> None:
        assert probe.isolates
        assert all(works for name, works in probe.limits.items() if name != "cpus")

    async def test_command_has_no_privilege_and_cannot_gain_one(self, sandbox: Sandbox) -> None:
        status = (await shell(sandbox, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status")).stdout.decode()
        fields = dict(line.split(":\t") for line in status.splitlines())
        assert {fields[name] for name in fields if name.startswith("Cap")} == {"0" * 16}
        assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")
        assert (await shell(sandbox, "unshare --user true || mount -t tmpfs x /tmp || umount /workspace")).exit_code

    async def test_sandboxes_of_root_run_as_distinct_ordinary_users(self, backend: ZygoteBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root changes its uid")
        owners = set()
        for _ in range(2):
            sandbox = await backend.create(SandboxSpec())
            mark = new_mark()
            assert (await shell(sandbox, f"sleep {mark} & id -u")).stdout == b"1000\n"
            owners |= {process.uids().real for process in await until_marked(mark, 1)}
        await backend.aclose()
        assert len(owners) == 2
        assert min(owners) >= 1000

    async def test_sandboxes_do_not_see_each_other(self, backend: ZygoteBackend, sandbox: Sandbox) -> None:
        await shell(sandbox, "echo secret > /tmp/secret; echo secret > secret; (setsid sleep 60 &)")
        other = await backend.create(SandboxSpec())
        seen = await shell(
            other, "cat /tmp/secret secret; ls /dev/shm /tmp /dev/pts; cat /proc/[0-9]*/comm | grep sleep"
        )
        assert seen.stdout == b"/dev/pts:\nptmx\n\n/dev/shm:\n\n/tmp:\n"

    async def test_agents_share_no_descriptor_with_zygote_or_siblings(self, backend: ZygoteBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root sees an agent's descriptors")
        for _ in range(3):
            await backend.create(SandboxSpec())
        _, *ours = zygotes()
        held = [descriptors(one) for one in ours]
        assert len(held) == 4
        assert sum(map(len, held)) == len(set.union(*held))

    async def test_no_path_or_variable_of_the_host_is_seen_in_a_sandbox(
        self, backend: ZygoteBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HOST_SECRET", "secret")
        sandbox = await backend.create(SandboxSpec())
        seen = (await shell(sandbox, "cat /proc/1/cmdline /proc/self/mountinfo; env")).stdout.decode()
        assert str(REPOSITORY) not in seen
        assert "secret" not in seen
        if os.geteuid() == 0:
            environs = [environment(one) for one in zygotes()]
            assert len(environs) > 2
            assert not any("secret" in environ for environ in environs)
        await backend.aclose()

    async def test_random_numbers_of_siblings_differ(self, backend: ZygoteBackend) -> None:
        code = "import random, uuid, tempfile; print(random.random(), uuid.uuid1(), uuid.uuid4(), hash('a'), id([]))"
        drawn = [(await python(await backend.create(SandboxSpec()), code)).stdout.split() for _ in range(2)]
        await backend.aclose()
        assert not set(drawn[0]) & set(drawn[1])

    async def test_death_of_the_zygote_ends_its_sandboxes_and_the_next_one_has_another(
        self, backend: ZygoteBackend
    ) -> None:
        for victim in (0, 1):  # the process that started the zygote, and the zygote
            lost = await backend.create(SandboxSpec())
            before = zygotes()
            await shell(lost, "(setsid sleep 60 &)")
            before[victim].send_signal(signal.SIGKILL)
            await until_gone(before)
            with pytest.raises(SandboxFault):
                await shell(lost, "true")
            sandbox = await backend.create(SandboxSpec())
            assert (await shell(sandbox, "echo again")).stdout == b"again\n"

    async def test_agent_that_is_killed_takes_its_sandbox_along_and_no_other(self, backend: ZygoteBackend) -> None:
        lost, other = [await backend.create(SandboxSpec()) for _ in range(2)]
        mark = new_mark()
        await shell(lost, f"(setsid sleep {mark} &)")
        (sleeper,) = await until_marked(mark, 1)
        agent = max(zygotes()[2:], key=lambda one: sleeper in one.children(recursive=True))
        agent.kill()
        await until_gone([agent, sleeper])
        with pytest.raises(SandboxFault):
            await shell(lost, "true")
        assert (await shell(other, "echo here")).stdout == b"here\n"
        await backend.aclose()

    async def test_many_live_at_once_and_all_are_gone_afterwards(self, backend: ZygoteBackend) -> None:
        async def one() -> None:
            sandbox = await backend.create(SandboxSpec())
            assert (await shell(sandbox, "echo $$")).exit_code == 0

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        alive = zygotes()
        assert len(alive) >= 22
        await backend.aclose()
        assert not zygotes()
        await until_gone(alive)

    async def test_images_are_refused(self, backend: ZygoteBackend) -> None:
        for image in ("python:3.12", "/srv/root"):
            with pytest.raises(UsageError, match=f"image '{image}': .*'bubblewrap'.*'docker'"):
                await backend.create(SandboxSpec(image=image))

    async def test_only_full_network_is_the_hosts(self, backend: ZygoteBackend) -> None:
        own = {name for _, name in socket.if_nameindex()}
        for mode in (NetworkMode.NONE, NetworkMode.GATEWAY, NetworkMode.FULL):
            sandbox = await backend.create(SandboxSpec(network=Network(mode)))
            seen = await shell(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1; ls /etc")
            words = set(seen.stdout.decode().split())
            assert words & own == (own if mode is NetworkMode.FULL else {"lo"})
            assert ("resolv.conf" in words) == (mode is NetworkMode.FULL)
        await backend.aclose()

    async def test_sandboxes_see_no_layer_but_their_own(self, backend: ZygoteBackend, sandbox: Sandbox) -> None:
        await sandbox.write("folder/kept", b"before")
        snapshot = await sandbox.snapshot()
        forks = [await backend.create(SandboxSpec(), files=snapshot) for _ in range(2)]
        script = "ls /.envhub/host; cat folder/kept; echo after > folder/kept; mv folder moved; rm -r moved; ls"
        assert (await shell(forks[0], script)).stdout == b"before"
        assert (await shell(forks[1], "cat folder/kept")).stdout == b"before"
        assert await sandbox.read("folder/kept") == b"before"
        await snapshot.close()
        assert (await shell(forks[1], "cat folder/kept")).stdout == b"before"
        await backend.aclose()

    async def test_ordinary_user_gets_sandboxes_and_forks_too(self) -> None:
        if os.geteuid() != 0 or not os.access(SYSTEM_PYTHON, os.X_OK):
            pytest.skip("needs root and a Python that everybody may run")
        modules = [path for path in sys.path if path.endswith("site-packages")]
        env = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *modules])}
        argv = [SYSTEM_PYTHON, "-B", "-c", AS_NOBODY]
        with anyio.fail_after(30):
            done = await anyio.run_process(argv, env=env, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[])
        shown = ["before1000", "CapEff:", "0" * 16, "NoNewPrivs:", "1", "Seccomp:", "2"]
        assert done.stdout.decode() == f"{NOBODY} {b'before'!r} {shown}\n"

    async def test_probe_says_what_failed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = zygote.plan
        monkeypatch.setattr(zygote, "plan", lambda *key: whole(*key)._replace(shown=["/usr", "/envhub-suite-nowhere"]))
        probe = await ZygoteBackend().probe()
        assert not probe.works
        assert not probe.isolates
        assert "the zygote cannot start: [Errno 2] No such file or directory: 'mount of" in probe.detail
        assert "CAP_SYS_ADMIN" in probe.detail
        assert not zygotes()

    async def test_child_that_cannot_become_a_sandbox_says_why(self, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = zygote.plan
        monkeypatch.setattr(zygote, "plan", lambda *key: whole(*key)._replace(call_filter="00"))
        backend = ZygoteBackend()
        with pytest.raises(SandboxFault, match=r"could not become a sandbox: .*seccomp"):
            await backend.create(SandboxSpec())
        await backend.aclose()
        assert not zygotes()
