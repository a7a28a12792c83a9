"""Sandboxes to judge in."""

import anyio
import pytest

from envhub.contracts.ids import EnvironmentId
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.task import Task
from envhub.environments.standalone import StandaloneContext
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.process.backend import ProcessBackend

PLACE = SandboxSpec(memory_mb=256)


@pytest.fixture(params=["process", pytest.param("bubblewrap", marks=pytest.mark.sandboxes)])
async def ctx(request: pytest.FixtureRequest):
    """The context of an episode whose sandbox can be had."""
    backend = ProcessBackend() if request.param == "process" else BubblewrapBackend()
    probe = await backend.probe()
    if not probe.works:
        pytest.skip(probe.detail)
    ctx = StandaloneContext(
        RolloutRequest(EnvironmentRef(EnvironmentId("test/judge-v0")), Task.ask("?")), sandboxes=backend
    )
    yield ctx
    with anyio.CancelScope(shield=True):
        await ctx.close()
        await backend.aclose()
