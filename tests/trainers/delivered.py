"""A group as the feed delivers it, of every shape: several turns, branches, a frozen sub-agent, two policy versions."""

import dataclasses

import numpy as np

from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion, RolloutId
from envhub.contracts.messages import Message, Role
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.score import Score
from envhub.contracts.turn import Finish, Fork, Sampling, Span, Turn
from envhub.feed.codec import TrainerGroup, decode_group
from envhub.feed.encoding import encode_group
from envhub.testing.fake_deliveries import closed_group
from envhub.tokens.rows import trajectory

FROZEN = PolicyId("frozen")


def turn(index: int, parent: int | None = None, *, version: int = 5, policy: PolicyId = TRAINED) -> Turn:
    """Three tokens of a prompt, then two sampled ones; their ids tell where they come from."""
    sampled = Span(0, 2, Role.ASSISTANT, True, policy == TRAINED, policy, PolicyVersion(version), 0.5, index)
    return Turn(
        index=index,
        policy_id=policy,
        parent=parent,
        fork=Fork.NONE,
        messages=(Message.user("x"),),
        tools=(),
        delta_ids=np.arange(3, dtype=np.int32) + 100 * index + 1,
        output_ids=np.arange(2, dtype=np.int32) + 100 * index + 50,
        logprobs=np.array([-0.5, -0.25], np.float32) * (index + 1),
        spans=(sampled,),
        response=Message.assistant("y"),
        finish=Finish.STOP,
        sampling=Sampling(),
        asked={},
        logprob_kind="exact",
    )


def delivered(number: int = 0) -> TrainerGroup:
    """Three members of four: a chain of two turns worth 1; two branches after one turn worth 0; a turn with a frozen
    sub-agent's below it, cut by its length and worth 0.5."""
    group = closed_group(number, [1.0, 0.0, 0.5])
    chain, branches, parent = group.outcomes
    sub_agent = Outcome(
        RolloutId(f"{parent.rollout_id}.0"), Status.COMPLETED, trajectory([turn(0, policy=FROZEN, version=0)])
    )
    outcomes = (
        dataclasses.replace(chain, trajectory=trajectory([turn(0), turn(1, 0, version=6)])),
        dataclasses.replace(branches, trajectory=trajectory([turn(0), turn(1, 0), turn(2, 0)])),
        dataclasses.replace(
            parent,
            status=Status.TRUNCATED,
            truncated_by="length",
            score=Score(0.5, {"format": 1.0}),
            trajectory=trajectory([turn(0)]),
            children=(sub_agent,),
        ),
    )
    request = dataclasses.replace(group.request, k=4)
    group = dataclasses.replace(
        group, request=request, outcomes=outcomes, members=(0, 1, 3), policy_version=PolicyVersion(6)
    )
    return decode_group(encode_group(group))
