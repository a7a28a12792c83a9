"""Environments and tasks: how rollouts fare over policy versions, why they fail, whether their judges agree."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envhub.contracts.events import RolloutEnded
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import JsonValue, Message
from envhub.contracts.store import RolloutSummary
from envhub.errors import Boundary
from envhub.monitor.agreement import JudgeAgreement
from envhub.monitor.figures import EnvironmentFigures, Heat, Histogram, VersionPoint

_VARYING = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?|'[^']{24,}'")


@dataclass(frozen=True, slots=True)
class FailureClass:
    """Failures whose messages are the same but for numbers and long names."""

    boundary: Boundary
    message: str
    count: int
    example: RolloutId


@dataclass(frozen=True, slots=True)
class EnvironmentReport:
    """One environment."""

    figures: EnvironmentFigures
    pass_at: float
    versions: list[VersionPoint]
    heat: Heat
    reward: Histogram
    failures: list[FailureClass]  # of the newest failures, the most frequent first
    truncated: dict[str, int]  # by the limit that was met
    judges: list[JudgeAgreement]  # of the newest scores


@dataclass(frozen=True, slots=True)
class ResponseClass:
    """Rollouts that gave the same answer, word for word."""

    text: str  # its beginning
    count: int
    mean_reward: float | None
    example: RolloutId


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of an environment."""

    environment: str
    task_id: str
    prompt: list[Message]
    answer: JsonValue
    figures: EnvironmentFigures
    pass_at: float
    versions: list[VersionPoint]
    reward: Histogram
    rollouts: list[RolloutSummary]  # the newest
    responses: list[ResponseClass]  # of these, the most frequent first


def failure_classes(failed: Iterable[RolloutSummary]) -> list[FailureClass]:
    """The most frequent first."""
    found: dict[tuple[Boundary, str], list[RolloutId]] = defaultdict(list)
    for one in failed:
        if one.failure is not None:
            found[one.failure, _VARYING.sub("#", one.failure_message)[:400]].append(one.rollout_id)
    classes = [FailureClass(boundary, text, len(ids), ids[0]) for (boundary, text), ids in found.items()]
    return sorted(classes, key=lambda one: -one.count)


def response_classes(ends: Iterable[RolloutEnded]) -> list[ResponseClass]:
    """The most frequent first."""
    found: dict[str, list[RolloutEnded]] = defaultdict(list)
    for event in ends:
        if event.response:
            found[event.response].append(event)
    classes = [ResponseClass(text[:400], len(same), _mean(same), same[0].rollout_id) for text, same in found.items()]
    return sorted(classes, key=lambda one: -one.count)


def _mean(ends: Sequence[RolloutEnded]) -> float | None:
    rewards = [event.score.scalar for event in ends if event.score]
    return sum(rewards) / len(rewards) if rewards else None
