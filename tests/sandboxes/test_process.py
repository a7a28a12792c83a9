"""The process back end passes the suite, and says that it isolates nothing."""

import pytest

from envhub.contracts.sandbox import Probe
from envhub.testing.sandbox_suite import SandboxSuite
from sandboxes.process import ProcessBackend


class TestProcessBackend(SandboxSuite):
    @pytest.fixture
    def backend(self) -> ProcessBackend:
        return ProcessBackend()

    async def test_probe_says_that_nothing_is_isolated(self, probe: Probe) -> None:
        assert not probe.isolates
        assert "WITHOUT isolation" in probe.detail


class TestProcessBackendOnUvloop(TestProcessBackend):
    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, bool]]:
        return ("asyncio", {"use_uvloop": True})
