"""Judge: asynchronous, on the loop, may ask ctx for policies, sandboxes and rollouts. Reward function: pure."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from envhub.contracts.score import JudgeInput, Score

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from envhub.contracts.context import Context

RewardFunction: TypeAlias = Callable[[JudgeInput], Score | float]  # pure and picklable


class Judge(Protocol):
    """Scores one finished episode."""

    async def score(self, input: JudgeInput, ctx: "Context") -> Score:
        """Raises whatever went wrong: that is a Failure("judge"), never a reward of 0."""


def is_judge(judge: Judge | RewardFunction) -> "TypeIs[Judge]":
    """Whether it is asked by its `score`, also where it can be called as well; all others are reward functions."""
    return hasattr(judge, "score")
