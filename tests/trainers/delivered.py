"""A group as the feed delivers it, of every shape: several turns, branches, a frozen sub-agent, two policy versions."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion, RolloutId
from envhub.contracts.messages import Message, Role
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.score import Score
from envhub.contracts.token_file import Experts, SamplingMask, TokenFile
from envhub.contracts.turn import Finish, Fork, Sampling, Span, Turn
from envhub.feed.codec import TrainerGroup, decode_group
from envhub.feed.encoding import encode_group
from envhub.feed.files import filled
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


def allowed(id: int) -> list[int]:
    """What a sampled token was drawn from."""
    return [id, 7, 8][: 1 + id % 3]


def routed(ids: Sequence[int]) -> Experts:
    """[n, 2, 2]: where the model's layers routed tokens."""
    return np.array([[[id % 5, id % 7], [id % 11, id % 13]] for id in ids], np.uint8).reshape(-1, 2, 2)


def told(turn: Turn, *, before: Sequence[int] = ()) -> Turn:
    """The turn, with all that an engine may tell of its tokens; `before` are those of the turn that it continues."""
    prompt, output = turn.delta_ids.tolist(), turn.output_ids.tolist()
    mask = SamplingMask.of([allowed(id) for id in output])
    read = [*before[-1:], *prompt, *output[:-1]]
    files = (TokenFile.of_mask(mask, len(prompt)), TokenFile.of_experts(routed(read), -len(before[-1:])))
    return dataclasses.replace(turn, sampling=Sampling(top_k=3), files=files)


def replayed(*, here: bool = True) -> TrainerGroup:
    """Two members: a chain of two turns that earned 0.25 and 0.5 of 1 by themselves, and a turn that earned 0.5 of 0.5;
    with what the engine told of their tokens, unless it is not `here`."""
    group = closed_group(0, [1.0, 0.5])
    first = told(turn(0))
    chain = trajectory([first, told(turn(1, 0, version=6), before=first.output_ids.tolist())])
    scores = (Score(1.0, turn_rewards={0: 0.25, 1: 0.5}), Score(0.5, turn_rewards={0: 0.5}))
    outcomes = tuple(
        dataclasses.replace(outcome, trajectory=rows, score=score)
        for outcome, rows, score in zip(group.outcomes, (chain, trajectory([first])), scores, strict=True)
    )
    bare = decode_group(encode_group(dataclasses.replace(group, outcomes=outcomes)))
    files = {file.sha256: file.data for outcome in outcomes for row in outcome.trajectory.rows for file in row.files}
    return filled(bare, files) if here else bare


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
