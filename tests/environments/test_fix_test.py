"""envhub/fix-test-v0: what is shown fails, and hidden cases tell a mended program from one that is made to look so."""

from collections.abc import AsyncIterator

import pytest

from envhub.contracts.messages import ToolCall
from envhub.contracts.outcome import Status
from envhub.contracts.turn import Sampling
from envhub.engines.scripted import ScriptInput
from envhub.environments.fix_test import BUGS
from envhub.registry import EnvironmentSpec, environments
from envhub.testing.environment_suite import EnvironmentSuite
from envhub.testing.runs import open_scripted_run, request
from envhub.tokens.call_forms import HERMES
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

FIX_TEST = "envhub/fix-test-v0"
MENDED = {
    "shop": "def total(prices, discount):\n    return sum(prices) * (1 - discount)\n",
    "dates": "import calendar\nleap = calendar.isleap\n",
    "batches": "def batches(items, size):\n    return [items[i:i + size] for i in range(0, len(items), size)]\n",
    "sorting": "def merge(left, right):\n    return sorted(left + right)\n",
}


class TestFixTest(EnvironmentSuite):
    pytestmark = pytest.mark.sandboxes

    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return environments.get(FIX_TEST)

    @pytest.fixture
    async def sandboxes(self, anyio_backend) -> AsyncIterator[BubblewrapBackend]:
        backend = BubblewrapBackend()
        yield backend
        await backend.aclose()


async def reward(module: str, command: str) -> tuple[float | None, list[str]]:
    """Of an agent that runs the tests, the command, and the tests again; and what it saw."""
    commands = ["python3 -m unittest", command, "python3 -m unittest"]
    seen: list[str] = []

    def script(asked: ScriptInput) -> str:
        seen[:] = [part.split("<|im_end|>")[0] for part in asked.prompt.split("<|im_start|>tool\n")[1:]]
        left = commands[len(seen) :]
        return HERMES.write(ToolCall("1", "bash", {"command": left[0]})) if left else "done"

    backend = BubblewrapBackend()
    async with open_pool(backend, PoolLimits(max_live=2)) as pool, open_scripted_run(script, sandboxes=pool) as run:
        asked = request(FIX_TEST, task=list(BUGS).index(module), sampling=Sampling(max_tokens=2_000))
        (outcome,) = await run.play(asked)
    await backend.aclose()
    assert outcome.status is Status.COMPLETED, outcome.failure
    return outcome.reward, seen


@pytest.mark.anyio
@pytest.mark.sandboxes
@pytest.mark.parametrize("module", BUGS)
async def test_a_mended_program_passes_and_scores_full_marks(module: str):
    scored, (before, _, after) = await reward(module, f"cat > {module}.py <<'END'\n{MENDED[module]}END")
    assert "FAILED" in before
    assert "OK" in after
    assert scored == 1.0


@pytest.mark.anyio
@pytest.mark.sandboxes
@pytest.mark.parametrize("command", ["true", "rm test_shop.py", "echo 'def total(*_): return 20.0' > shop.py"])
async def test_a_program_that_is_not_mended_scores_nothing(command: str):
    scored, _ = await reward("shop", command)
    assert scored == 0.0
