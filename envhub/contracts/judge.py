"""Judge: asynchronous, on the loop, may ask ctx for policies, sandboxes and rollouts. Reward function: pure. Group
judge: scores the members of a group against each other."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from envhub.contracts.ids import PolicyId
from envhub.contracts.score import JudgeInput, Score

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from envhub.contracts.context import Context, GroupContext

RewardFunction: TypeAlias = Callable[[JudgeInput], Score | float]  # pure and picklable


class Judge(Protocol):
    """Scores one finished episode. One that can't do without certain policies of the run names them in `policies`, as
    a group judge does: without them no run of it starts."""

    async def score(self, input: JudgeInput, ctx: "Context") -> Score:
        """Raises whatever went wrong: that is a Failure("judge"), never a reward of 0."""


class GroupJudge(Protocol):
    """Scores the finished members of one group together, once each has its own score. One instance judges all groups,
    many of them side by side."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: "GroupContext") -> Sequence[Score]:
        """The scores that take the place of the members' own (`JudgeInput.score`), in the order of `inputs`. Raises
        whatever went wrong: then no member has a valid score."""


def policies_of(judge: Judge | GroupJudge | RewardFunction | None) -> frozenset[PolicyId]:
    """Those that it can't do without, as far as it says so."""
    return frozenset(getattr(judge, "policies", ()))


def is_judge(judge: Judge | RewardFunction) -> "TypeIs[Judge]":
    """Whether it is asked by its `score`, also where it can be called as well; all others are reward functions."""
    return hasattr(judge, "score")


def is_group_judge(judge: Judge | GroupJudge | RewardFunction) -> "TypeIs[GroupJudge]":
    """Whether it scores whole groups."""
    return hasattr(judge, "score_group")
