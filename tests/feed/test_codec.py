"""What a trainer decodes is what the run recorded."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.ids import (
    EnvironmentId,
    LeaseId,
    PolicyId,
    PolicyVersion,
    RunId,
    child_rollout_id,
    group_id,
    member_rollout_id,
)
from envhub.contracts.messages import Image, Role
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.contracts.token_file import TokenFile, TokenFileKind
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import PromptImage, Span
from envhub.errors import UsageError
from envhub.feed import encoding
from envhub.feed.codec import decode_group
from envhub.feed.encoding import delivery_pieces, encode_group
from envhub.feed.v1 import feed_pb2 as pb
from envhub.testing.fake_deliveries import closed_group

finite = st.floats(allow_nan=False, allow_infinity=False)
words = st.text(max_size=8)
int32 = st.integers(-(2**31), 2**31 - 1)


@st.composite
def spans(draw, cuts):
    made = []
    for start, end in pairwise(cuts):
        sampled = draw(st.booleans())
        made.append(
            Span(
                start,
                end,
                draw(st.sampled_from(Role)),
                sampled,
                sampled and draw(st.booleans()),
                PolicyId(draw(words)),
                PolicyVersion(draw(st.integers(-1, 2**40))),
                draw(finite),
                draw(st.integers(-1, 3) | st.integers(-1, 1000)),
            )
        )
    return tuple(made)


def images(length):
    """Without what stays with the run: the file, and the place in the text."""
    size = st.integers(1, 2**16)
    kept = st.builds(Image, words, words, size, size)
    return st.builds(PromptImage, kept, st.integers(0, length), st.integers(0, length))


def token_files(length):
    """Without their bytes, which Blobs has."""
    edge = st.integers(0, length)
    return st.builds(TokenFile, st.sampled_from(TokenFileKind), words, edge, edge)


@st.composite
def rows(draw):
    length = draw(st.integers(0, 20))
    cuts = sorted({0, length, *draw(st.lists(st.integers(0, length), max_size=3))})
    return Row(
        np.array(draw(st.lists(int32, min_size=length, max_size=length)), np.int32),
        np.array(draw(st.lists(st.floats(-50, 0, width=32), min_size=length, max_size=length)), np.float32),
        draw(spans(cuts)),
        tuple(draw(st.lists(st.integers(0, 1000), max_size=3))),
        draw(st.none() | st.integers(0, 5)),
        draw(st.integers(0, length)),
        tuple(draw(st.lists(images(length), max_size=2))),
        tuple(draw(st.lists(token_files(length), max_size=2))),
    )


@st.composite
def outcomes(draw, rollout_id, depth=0):
    rewards = st.dictionaries(st.integers(0, 3), finite, max_size=4)
    scores = st.builds(Score, finite, st.dictionaries(words, finite, max_size=2), turn_rewards=rewards)
    children = range(draw(st.integers(0, 2)) if depth < 2 else 0)
    return Outcome(
        rollout_id,
        draw(st.sampled_from([Status.COMPLETED, Status.TRUNCATED])),
        Trajectory(tuple(draw(st.lists(rows(), max_size=2)))),
        draw(scores),
        truncated_by=draw(words),
        children=tuple(draw(outcomes(child_rollout_id(rollout_id, n), depth + 1)) for n in children),
    )


@st.composite
def groups(draw):
    number = draw(st.integers(0, 2**40))
    group = group_id(RunId(draw(words)), number)
    k = draw(st.integers(1, 4))
    members = tuple(sorted(draw(st.sets(st.integers(0, k - 1), max_size=k))))
    rollout = RolloutRequest(EnvironmentRef(EnvironmentId(draw(words))), Task.ask("question", id=draw(words)))
    return ClosedGroup(
        RunId(draw(words)),
        group,
        number,
        GroupRequest(rollout, k),
        members,
        tuple(draw(outcomes(member_rollout_id(group, m, draw(st.integers(0, 3))))) for m in members),
        PolicyVersion(draw(st.integers(-1, 2**40))),
    )


def flatten(outcome, parent=None):
    """Every row below an outcome with its rollout and that one's parent, parents first."""
    own = [(outcome, parent, row) for row in outcome.trajectory.rows]
    return own + [row for child in outcome.children for row in flatten(child, outcome.rollout_id)]


def assert_same_row(sent, received):
    for field in dataclasses.fields(Row):
        mine, theirs = getattr(sent, field.name), getattr(received, field.name)
        assert np.array_equal(theirs, mine) if isinstance(mine, np.ndarray) else theirs == mine, field.name
    assert (received.ids.dtype, received.logprobs.dtype) == (np.int32, np.float32)


@pytest.mark.parametrize("small_tokens", [-1, 1 << 20], ids=["in pieces", "whole"])
@settings(deadline=None, max_examples=60)
@given(group=groups())
def test_group_survives_the_wire(small_tokens, group):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(encoding, "SMALL_TOKENS", small_tokens)
        received = decode_group(encode_group(group))
    for name in ("run_id", "group_id", "number", "policy_version"):
        assert getattr(received, name) == getattr(group, name)
    assert (received.environment, received.task_id) == (
        group.request.rollout.environment.id,
        group.request.rollout.task.id,
    )
    assert received.k == group.request.k
    assert tuple(member.index for member in received.members) == group.members
    for member, outcome in zip(received.members, group.outcomes, strict=True):
        assert member_rollout_id(group.group_id, member.index, member.attempt) == member.rollout_id
        for name in ("rollout_id", "status", "truncated_by", "reward"):
            assert getattr(member, name) == getattr(outcome, name)
        assert member.components == outcome.score.components
        sent = flatten(outcome)
        assert [(row.rollout_id, row.parent_rollout_id) for row in member.rows] == [
            (by.rollout_id, parent) for by, parent, _ in sent
        ]
        for row, (by, _, original) in zip(member.rows, sent, strict=True):
            assert_same_row(original, row.row)
            assert {earned.turn: (earned.end, earned.reward) for earned in row.rewards} == {
                span.turn: (span.end, by.score.turn_rewards[span.turn])
                for span in original.spans
                if span.sampled and span.end > original.fork_at and span.turn in by.score.turn_rewards
            }
            assert not original.mask(trainable=False)[: row.prompt_length].any()


def test_delivery_carries_its_lease():
    wire = pb.Delivery.FromString(delivery_pieces(Delivery(LeaseId("lease"), closed_group(3), 2, 1e9 + 0.25)).join())
    assert (wire.lease_id, wire.count, wire.deadline, wire.group.number) == ("lease", 2, 1e9 + 0.25, 3)


def test_tokens_are_little_endian_on_the_wire():
    row = pb.Group.FromString(encode_group(closed_group(0, [1.0], prompt=1, sampled=1))).members[0].rows[0]
    assert row.token_ids == b"\x00\x00\x00\x00\x01\x00\x00\x00"
    assert row.logprobs == b"\x00\x00\x00\x00\x00\x00\x00\xbf"


def test_member_without_a_score_is_never_delivered():
    group = closed_group(0)
    unscored = dataclasses.replace(group.outcomes[1], score=None)
    with pytest.raises(UsageError, match=r"member 1, rollout 'run-0-1-0'.*without a valid score"):
        encode_group(dataclasses.replace(group, outcomes=(group.outcomes[0], unscored)))


def test_row_whose_logprobs_are_cut_is_refused():
    wire = pb.Group.FromString(encode_group(closed_group(0, [1.0])))
    wire.members[0].rows[0].logprobs = b"\0" * 4
    with pytest.raises(ValueError, match="7 tokens but 1 logprobs"):
        decode_group(wire.SerializeToString())


def test_rewards_are_those_of_the_members_in_order():
    assert decode_group(encode_group(closed_group(0, [0.5, 0.0, 1.0]))).rewards.tolist() == [0.5, 0.0, 1.0]
