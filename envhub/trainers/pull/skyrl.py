"""SkyRL: one `GeneratorOutput`, which is a dict of lists, for the groups of a step."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from envhub.contracts.token_file import Experts
from envhub.feed.codec import TrainerGroup
from envhub.trainers.pull.samples import Rows, Sample, samples

Id = TypeVar("Id")


def generator_output(
    groups: Sequence[TrainerGroup],
    trajectory_id: Callable[[str, int], Id],
    rows: Rows = Rows.ALL,
    *,
    by_turn: bool = False,
) -> dict[str, object]:
    """A GeneratorOutput; `trajectory_id` is SkyRL's class TrajectoryID. With Rows.ALL it is of step-wise training
    (`step_wise_trajectories=True`): a member's rows lie together, and its reward at the last token of the last one.
    With Rows.ONE each member is a row, and rewards are scalars. `by_turn`: what turns earned lies at their last tokens,
    and what that leaves of the member's reward at the last one of its last row."""
    taken = [sample for group in groups for sample in samples(group, rows)]
    last = [here.member is not after.member for here, after in pairwise(taken)] + [True] * bool(taken)
    step_wise = rows is Rows.ALL
    return {
        "prompt_token_ids": [sample.ids[sample.prompt].tolist() for sample in taken],
        "response_ids": [sample.ids[sample.response].tolist() for sample in taken],
        "rewards": _rewards(taken, last, step_wise=step_wise, by_turn=by_turn),
        "loss_masks": [sample.trainable[sample.response].astype(int).tolist() for sample in taken],
        "stop_reasons": ["length" if sample.truncated else "stop" for sample in taken],
        "rollout_metrics": {},
        "rollout_logprobs": [sample.logprobs[sample.response].tolist() for sample in taken],
        "trajectory_ids": [trajectory_id(sample.group.group_id, sample.member.index) for sample in taken],
        "rollout_expert_indices": _experts(taken),
        "is_last_step": last if step_wise else None,
    }


def _experts(taken: Sequence[Sample]) -> list[Experts] | None:
    """By row; None where a row has none: SkyRL replays all of a batch or nothing."""
    known = [experts for sample in taken if (experts := sample.experts) is not None]
    return known if known and len(known) == len(taken) else None


def _rewards(
    taken: Sequence[Sample], last: Sequence[bool], *, step_wise: bool, by_turn: bool
) -> list[float] | list[list[float]]:
    if by_turn:
        return _by_turn(taken, last)
    if step_wise:
        return [_at_the_end(sample, ends) for sample, ends in zip(taken, last, strict=True)]
    return [sample.member.reward for sample in taken]


def _by_turn(taken: Sequence[Sample], last: Sequence[bool]) -> list[list[float]]:
    """By token of each response."""
    rewards = []
    earned = 0.0  # by the member so far
    for sample, ends in zip(taken, last, strict=True):
        of_row = sample.turn_rewards[sample.response].astype(np.float64)
        earned += float(of_row.sum())
        if ends:
            of_row[-1] += sample.member.reward - earned
            earned = 0.0
        rewards.append(of_row.tolist())
    return rewards


def _at_the_end(sample: Sample, ends: bool) -> list[float]:
    """By token of the response."""
    length = len(sample.ids) - sample.row.prompt_length
    return [0.0] * (length - 1) + [sample.member.reward if ends else 0.0]
