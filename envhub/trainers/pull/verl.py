"""verl: `AgentLoopOutput(**record)` for each record."""

from envhub.feed.codec import TrainerGroup
from envhub.trainers.pull.samples import Rows, Sample, samples


def agent_loop_outputs(group: TrainerGroup, rows: Rows = Rows.ALL) -> list[dict[str, object]]:
    """Keyword arguments of AgentLoopOutput; where a loop may return one output only, ask for Rows.ONE. The versions are
    where verl looks for the age of a trajectory, `turn_scores` where its own loop keeps what turns earned."""
    return [_record(sample) for sample in samples(group, rows)]


def _record(sample: Sample) -> dict[str, object]:
    oldest, newest = sample.versions
    versions = {"min_global_steps": oldest, "max_global_steps": newest}
    experts = sample.experts
    return {
        "prompt_ids": sample.ids[sample.prompt].tolist(),
        "response_ids": sample.ids[sample.response].tolist(),
        "response_mask": sample.trainable[sample.response].astype(int).tolist(),
        "response_logprobs": sample.logprobs[sample.response].tolist(),
        "reward_score": sample.member.reward,
        "num_turns": len(sample.row.row.turns),
        "metrics": {},
        "extra_fields": {
            "group_id": sample.group.group_id,
            **versions,
            "turn_scores": [earned.reward for earned in sample.row.rewards],
        },
        **({} if experts is None else {"routed_experts": experts}),
    }
