"""The process back end passes the suite, and says that it isolates nothing."""

import os

import psutil
import pytest

from envhub.contracts.sandbox import Probe, SandboxSpec
from envhub.testing.sandbox_suite import DAEMON, SandboxSuite, new_mark, shell, until_marked
from sandboxes import spawner
from sandboxes.process.backend import ProcessBackend


def agent_of(process: psutil.Process) -> psutil.Process:
    """The process above it that we started."""
    return next(parent for parent in process.parents() if parent.ppid() == os.getpid())


class TestProcessBackend(SandboxSuite):
    @pytest.fixture
    def backend(self) -> ProcessBackend:
        return ProcessBackend()

    async def test_probe_says_that_nothing_is_isolated(self, probe: Probe) -> None:
        assert not probe.isolates
        assert "WITHOUT isolation" in probe.detail

    async def test_hung_agent_is_killed_with_all_that_it_runs(
        self, backend: ProcessBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(spawner, "END_S", 0.1)
        sandbox, mark = await backend.create(SandboxSpec()), new_mark()
        await shell(sandbox, f"({DAEMON.format(mark)}) > /dev/null 2>&1 &")
        sleeper = (await until_marked(mark, 3))[0]
        agent_of(sleeper).suspend()
        await sandbox.close()
        await until_marked(mark, 0)


class TestProcessBackendOnUvloop(TestProcessBackend):
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, bool]]:
        return ("asyncio", {"use_uvloop": True})
