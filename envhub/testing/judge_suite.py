"""JudgeSuite: what every judge and reward function must hold to.

class TestNumber(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return number

    @pytest.fixture
    def gold(self):
        return answered(Task.ask("What is 3 + 4?", 7), "7")

    @pytest.fixture
    def wrong(self):
        return answered(Task.ask("What is 3 + 4?", 7), "8")
"""

import pickle
from dataclasses import replace

import pytest

from envhub.contracts.ids import EnvironmentId
from envhub.contracts.judge import Judge, RewardFunction
from envhub.contracts.messages import Message
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.environments.standalone import StandaloneContext, score

ODD_RESPONSES = {
    "empty": "",
    "white space": " \n",
    "null character": "\x00",
    "lone surrogate": "\ud800",
    "long text": "word 12,34 \u221e " * 20_000,
    "long number": "9" * 100_000,
}


def answered(task: Task, response: str) -> JudgeInput:
    """An episode in which the task was answered at once."""
    return JudgeInput(task, (*task.prompt, Message.assistant(response)))


async def scored(judge: Judge | RewardFunction, input: JudgeInput) -> Score:
    """The score that a judge gives without a platform."""
    request = RolloutRequest(EnvironmentRef(EnvironmentId("suite/judge-v0")), input.task)
    return await score(judge, input, StandaloneContext(request))


class JudgeSuite:
    """Override `judge`, `gold` (an episode that deserves full marks) and `wrong` (one that does not)."""

    @pytest.fixture
    def judge(self) -> Judge | RewardFunction:
        raise NotImplementedError("override the fixture `judge`")

    @pytest.fixture
    def gold(self) -> JudgeInput:
        raise NotImplementedError("override the fixture `gold`")

    @pytest.fixture
    def wrong(self) -> JudgeInput:
        raise NotImplementedError("override the fixture `wrong`")

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.mark.anyio
    async def test_gold_gets_full_marks(self, judge: Judge | RewardFunction, gold: JudgeInput) -> None:
        assert (await scored(judge, gold)).scalar == 1.0

    @pytest.mark.anyio
    async def test_wrong_gets_less_than_gold(self, judge: Judge | RewardFunction, wrong: JudgeInput) -> None:
        assert (await scored(judge, wrong)).scalar < 1.0

    @pytest.mark.anyio
    async def test_same_episode_gets_the_same_score(self, judge: Judge | RewardFunction, gold: JudgeInput) -> None:
        first, second = await scored(judge, gold), await scored(judge, pickle.loads(pickle.dumps(gold)))
        assert (first.scalar, first.components) == (second.scalar, second.components)

    @pytest.mark.anyio
    @pytest.mark.parametrize("response", ODD_RESPONSES.values(), ids=ODD_RESPONSES.keys())
    async def test_any_response_is_scored(self, judge: Judge | RewardFunction, gold: JudgeInput, response: str) -> None:
        assert (await scored(judge, answered(gold.task, response))).scalar < 1.0

    @pytest.mark.anyio
    async def test_episode_without_a_response_is_scored(self, judge: Judge | RewardFunction, gold: JudgeInput) -> None:
        assert (await scored(judge, replace(gold, messages=gold.task.prompt))).scalar < 1.0
