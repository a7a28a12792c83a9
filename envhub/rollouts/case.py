"""Case: a group as its judge is given it, and who that judge is."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from envhub.contracts.ids import PolicyId
from envhub.contracts.judge import GroupJudge, Judge, RewardFunction, policies_of
from envhub.contracts.messages import JsonValue
from envhub.contracts.rollout import GroupRequest, RolloutRequest
from envhub.contracts.score import JudgeInput, Judgement
from envhub.errors import UsageError
from envhub.registry import environments, group_judges

Kept: TypeAlias = dict[tuple[str, ...], Mapping[str, JsonValue]]  # what judges of groups keep, by `task_of`


@dataclass(frozen=True, slots=True)
class Case:
    """What the judge of a group is to judge."""

    judge: str  # "": the environment's own
    episodes: tuple[JudgeInput, ...]  # of the members with a valid score, in order
    kept: Mapping[str, JsonValue]  # of earlier groups of the same task


def judge_of(name: str, request: RolloutRequest) -> GroupJudge | None:
    """Who judges groups of that request, by its name or, without one, by its environment; None: nobody does."""
    return group_judges.get(name) if name else environments.get(request.environment.id).group_judge


def check_policies(judge: Judge | GroupJudge | RewardFunction | None, name: str, known: Collection[PolicyId]) -> None:
    """
    Raises:
        UsageError: the judge can't do without a policy that is not known.
    """
    lacking = sorted(policies_of(judge) - set(known))
    if lacking:
        raise UsageError(
            f"{name} asks policy '{lacking[0]}', which this run does not have; add it with "
            f"--policy {lacking[0]}=ENGINE[:WHERE]"
        )


def task_of(request: GroupRequest) -> tuple[str, ...]:
    """What a judge keeps values for: itself and the task."""
    rollout = request.rollout
    return request.group_judge, rollout.environment.id, rollout.task.id


def keep(kept: Kept, request: GroupRequest, judgement: Judgement) -> None:
    """Adds what the judge of a group of that request kept; a value that is there already stays."""
    if judgement.kept:
        kept[task_of(request)] = {**judgement.kept, **kept.get(task_of(request), {})}
