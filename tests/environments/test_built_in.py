"""Every built-in environment passes the suite that ships."""

from collections.abc import Sequence

import pytest

from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.environments.delegate import CHILD, share_correct
from envhub.environments.standalone import StandaloneContext
from envhub.registry import EnvironmentSpec, environments, make
from envhub.testing.environment_suite import EnvironmentSuite
from envhub.testing.judge_suite import JudgeSuite, answered

pytestmark = pytest.mark.anyio


class TestArithmetic(EnvironmentSuite):
    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return environments.get("envhub/arithmetic-v0")

    def test_tasks_are_all_pairs_of_digits_but_the_example(self, spec: EnvironmentSpec):
        pairs = {f"{a}+{b}" for a in range(10) for b in range(10)}
        assert {task.id for task in spec.load_tasks()} == pairs - {"2+3"}


class TestCalculator(EnvironmentSuite):
    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return environments.get("envhub/calculator-v0")


class TestDelegate(EnvironmentSuite):
    @pytest.fixture
    def spec(self) -> EnvironmentSpec:
        return environments.get("envhub/delegate-v0")


class TestShareCorrect(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return share_correct

    @pytest.fixture
    def gold(self):
        return answered(environments.get("envhub/delegate-v0").load_tasks()[0], "12, 4")

    @pytest.fixture
    def wrong(self, gold):
        return answered(gold.task, "12, 5")

    def test_more_numbers_than_sums_cost(self, gold):
        assert share_correct(answered(gold.task, "12, 4, 1, 1")).scalar == 0.5


class Platform(StandaloneContext):
    """Answers child rollouts from a list of responses."""

    def __init__(self, request: RolloutRequest, responses: Sequence[str]) -> None:
        super().__init__(request)
        self.responses = responses
        self.children: list[RolloutRequest] = []

    async def rollouts(self, requests: Sequence[RolloutRequest]) -> tuple[Outcome, ...]:
        self.children += requests
        return tuple(Outcome(RolloutId(f"child-{text}"), Status.COMPLETED, response=text) for text in self.responses)


async def delegate(sums: object, responses: Sequence[str]) -> tuple[str, Platform]:
    spec = environments.get("envhub/delegate-v0")
    task = spec.load_tasks()[0]
    platform = Platform(RolloutRequest(EnvironmentRef(spec.id), task, judge="exact"), responses)
    environment = make(spec.id)
    await environment.reset(task, seed=0, ctx=platform)
    call = ToolCall("1", "delegate", {"sums": sums})
    result = await environment.step(Action(Message.assistant("", (call,))))
    return result.observation.messages[0].content, platform


async def test_delegate_gives_each_sum_to_a_frozen_child():
    said, platform = await delegate(["3 + 4", " 5+6 "], ["The answer is 7", "no idea"])
    assert said == "7, ?"
    assert [child.task.answer for child in platform.children] == [7, 11]
    assert [child.environment for child in platform.children] == [CHILD, CHILD]
    assert not any(child.trainable or child.judge for child in platform.children)


@pytest.mark.parametrize("sums", [["3 + x"], ["33 + 4"], [""]])
async def test_delegate_refuses_what_is_no_sum(sums: list[str]):
    said, platform = await delegate(sums, [])
    assert "must read 'a + b'" in said
    assert platform.children == []


async def test_delegate_of_nothing_starts_nothing():
    said, platform = await delegate([], [])
    assert said == "" and platform.children == []
