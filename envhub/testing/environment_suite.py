"""EnvironmentSuite: what every registered environment must hold to.

class TestSums(EnvironmentSuite):
    @pytest.fixture
    def spec(self):
        return registry.environments.get("demo/sums-v0")
"""

import pickle
import warnings

import pytest
from gymnasium.utils.env_checker import check_env

from envhub.contracts.sandbox import SandboxBackend
from envhub.environments.check import Examination, preflight
from envhub.environments.to_gymnasium import EnvhubGymEnv
from envhub.registry import EnvironmentSpec


class EnvironmentSuite:
    """Override `spec`; override `sandboxes` too where resetting or an empty answer needs a sandbox."""

    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        raise NotImplementedError("override the fixture `spec`")

    @pytest.fixture
    def sandboxes(self) -> SandboxBackend | None:
        return None

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def examination(self, spec: EnvironmentSpec, sandboxes: SandboxBackend | None) -> Examination:
        return Examination(spec, spec.load_tasks(), {}, sandboxes)

    def test_tasks_are_the_same_every_time_and_cross_a_process(self, spec: EnvironmentSpec) -> None:
        tasks = spec.load_tasks()
        assert tasks == spec.load_tasks()
        assert pickle.loads(pickle.dumps(tasks)) == tasks

    @pytest.mark.anyio
    async def test_preflight_lets_it_run(self, spec: EnvironmentSpec) -> None:
        assert await preflight(spec) == spec.load_tasks()

    @pytest.mark.anyio
    async def test_tools_can_be_told_to_a_model(self, examination: Examination) -> None:
        await examination.tools()

    @pytest.mark.anyio
    async def test_reset_with_one_seed_gives_one_observation(self, examination: Examination) -> None:
        await examination.reset()

    @pytest.mark.anyio
    async def test_empty_answer_is_survived_and_scored(self, examination: Examination) -> None:
        await examination.empty_answer()

    @pytest.mark.anyio
    async def test_gold_answer_gets_full_marks(self, examination: Examination) -> None:
        await examination.gold_answer()

    @pytest.mark.anyio
    async def test_close_is_idempotent(self, examination: Examination) -> None:
        await examination.close()

    def test_gymnasium_accepts_it_without_a_warning(self, spec: EnvironmentSpec) -> None:
        env = EnvhubGymEnv(spec.id)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                check_env(env, skip_render_check=True)
        finally:
            env.close()
