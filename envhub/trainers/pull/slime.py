"""slime: `Sample.from_dict(record)` for each record."""

from collections.abc import Sequence

from envhub.feed.codec import TrainerGroup
from envhub.trainers.pull.samples import Rows, Sample, samples


def sample_records(group: TrainerGroup, rows: Rows = Rows.ALL) -> list[dict[str, object]]:
    """What Sample.from_dict takes. Rows of one member share a `rollout_id`, so that slime averages within it."""
    return [_record(sample, index) for index, sample in enumerate(samples(group, rows))]


def _record(sample: Sample, index: int) -> dict[str, object]:
    group, member = sample.group, sample.member
    experts = sample.experts
    record: dict[str, object] = {
        "group_index": group.number,
        "index": group.number * group.k + index,
        "rollout_id": group.number * group.k + member.index,
        "tokens": sample.ids.tolist(),
        "response_length": len(sample.ids) - sample.row.prompt_length,
        "loss_mask": sample.trainable[sample.response].astype(int).tolist(),
        "rollout_log_probs": sample.logprobs[sample.response].tolist(),
        "reward": member.reward,
        "weight_versions": _versions(sample),
        "status": str(member.status),
        "metadata": {"group_id": group.group_id, "rollout_id": sample.row.rollout_id, "task_id": group.task_id},
    }
    if experts is not None:
        record["rollout_routed_experts"] = experts
    return record


def _versions(sample: Sample) -> Sequence[str]:
    """Of each turn that trains, in order."""
    return [str(span.policy_version) for span in sample.row.row.spans if span.trainable]
