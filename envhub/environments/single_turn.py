"""SingleTurn: one question, one answer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.judge import Judge, RewardFunction
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.contracts.task import Task
from envhub.environments.opening import opening

if TYPE_CHECKING:
    from envhub.contracts.context import Context


class SingleTurn(Environment):
    """The first action is the answer."""

    def __init__(self, judge: Judge | RewardFunction, *, system: str = "", examples: Sequence[Message] = ()) -> None:
        self.judge = judge
        self._system = system
        self._examples = tuple(examples)

    async def reset(self, task: Task, *, seed: int, ctx: "Context") -> Observation:
        return Observation(opening(task, system=self._system, examples=self._examples))

    async def step(self, action: Action) -> StepResult:
        return StepResult(terminated=True)
