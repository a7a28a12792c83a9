"""Agent Lightning: `CompletedRollout(**record)` for each record; its triplets become its own."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from envhub.feed.codec import TrainerGroup, TrainerMember
from envhub.trainers.pull.samples import Sample, samples


def completed_rollouts(group: TrainerGroup) -> list[dict[str, Any]]:
    """Keyword arguments of CompletedRollout, one a member: a triplet for each turn that trains, of whatever branch.
    Members of one group share a `data_id`."""
    taken = samples(group)
    return [_rollout(group, member, [one for one in taken if one.member is member]) for member in group.members]


def _rollout(group: TrainerGroup, member: TrainerMember, taken: list[Sample]) -> dict[str, Any]:
    return {
        "rollout_id": member.rollout_id,
        "data_id": group.group_id,
        "step": group.policy_version,
        "sample_idx_in_step": group.number * group.k + member.index,
        "enqueue_time": 0.0,
        "final_reward": member.reward,
        "triplets": [triplet for sample in taken for triplet in _triplets(sample)],
        "metadata": {"task_id": group.task_id, "environment": group.environment},
    }


def _triplets(sample: Sample) -> Iterator[dict[str, Any]]:
    ids, rollout_id = sample.ids.tolist(), sample.row.rollout_id
    trained = (span for span in sample.row.row.spans if span.trainable)
    for turn, of_turn in groupby(trained, key=lambda span: span.turn):
        spans = list(of_turn)
        start, end = spans[0].start, spans[-1].end
        yield {
            "prompt": {"token_ids": ids[:start]},
            "response": {
                "token_ids": ids[start:end],
                "log_probs": sample.logprobs[start:end].tolist(),
            },
            "metadata": {"rollout_id": rollout_id, "turn": turn},
        }
