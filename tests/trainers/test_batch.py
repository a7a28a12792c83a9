"""TokenBatch: what fits together, and what the feed's groups become."""

import dataclasses
import math

import numpy as np
import pytest

from envhub.contracts.token_file import SamplingMask
from envhub.errors import UsageError
from envhub.feed.codec import decode_group
from envhub.feed.encoding import encode_group
from envhub.testing.fake_deliveries import closed_group
from envhub.trainers.batch import TokenBatch
from envhub.trainers.objective import K25Settings, k25_objective
from tests.trainers.batches import batch_of
from tests.trainers.delivered import allowed, delivered, replayed

BATCH = batch_of([2, 2], [1.0, -1.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainable": np.ones(3, np.bool_)}, r"trainable has shape \(3,\)"),
        ({"trainable": np.ones(4, np.int64)}, "trainable has dtype int64"),
        ({"offsets": np.array([0, 3, 2])}, "must rise from 0 to 4"),
        ({"offsets": np.array([1, 2, 4])}, "must rise from 0 to 4"),
        ({"groups": np.array([0, -1])}, "number the groups from 0"),
        ({"members": np.array([0, -1])}, "number the members from 0"),
        ({"versions": np.zeros(5)}, r"versions has shape \(5,\)"),
        ({"prompt_lengths": np.zeros(1)}, r"prompt_lengths has shape \(1,\)"),
        ({"logprobs": np.array([0.0, -np.inf, 0.0, 0.0])}, "logprobs of trainable tokens must be finite"),
        ({"sampling_mask": SamplingMask.of([[1]])}, "sampling_mask is of 1 tokens; it must be of all 4"),
        ({"advantages": np.array([0.0, np.nan])}, "leave out the rows of members without a valid score"),
    ],
)
def test_batch_that_does_not_fit_together_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(BATCH, **change)


def test_batch_of_delivered_groups_lays_rows_end_to_end():
    groups = [decode_group(encode_group(closed_group(n, rewards))) for n, rewards in enumerate([[0, 1], [1, 1, 1]])]
    batch = TokenBatch.of(groups)
    assert batch.offsets.tolist() == [0, 7, 14, 21, 28, 35]
    assert batch.advantages.tolist() == [-0.5, 0.5, 0.0, 0.0, 0.0]
    assert batch.groups.tolist() == [0, 0, 1, 1, 1]
    assert batch.members.tolist() == [0, 1, 2, 3, 4]
    assert batch.prompt_lengths.tolist() == [3] * 5
    assert batch.ids.reshape(5, 7).tolist() == [list(range(7))] * 5
    assert batch.temperatures.reshape(5, 7).tolist() == [[0.0] * 3 + [1.0] * 4] * 5
    assert batch.versions.reshape(5, 7).tolist() == [[-1] * 3 + [0] * 4] * 5
    assert batch.trainable.reshape(5, 7).tolist() == [[False] * 3 + [True] * 4] * 5
    assert batch.logprobs[batch.trainable].tolist() == [-0.5] * 20


def test_rows_of_children_have_the_advantage_of_their_member():
    group = closed_group(0, [0.0, 1.0])
    parent = group.outcomes[1]
    child = dataclasses.replace(parent, rollout_id=f"{parent.rollout_id}.0", score=None)
    group = dataclasses.replace(group, outcomes=(group.outcomes[0], dataclasses.replace(parent, children=(child,))))
    batch = TokenBatch.of([decode_group(encode_group(group))])
    assert batch.advantages.tolist() == [-0.5, 0.5, 0.5]
    assert batch.members.tolist() == [0, 1, 1]


def test_frozen_sub_agents_give_rows_that_do_not_train():
    batch = TokenBatch.of([delivered()])
    assert batch.lengths.tolist() == [10, 10, 10, 5, 5]
    assert batch.members.tolist() == [0, 1, 1, 2, 2]
    assert batch.trainable[-5:].tolist() == [False] * 5
    objective = k25_objective(batch, batch.logprobs, K25Settings(-0.7, 0.7, 0.1))
    assert not objective.gradient[-5:].any()


def test_masks_of_all_rows_lie_end_to_end_beside_rows_that_have_none():
    batch = TokenBatch.of([delivered(), replayed()])
    mask = batch.sampling_mask
    assert mask is not None
    drawn = [mask.at(token).tolist() for token in range(len(batch.ids))]
    assert not any(drawn[:40])  # the first group's
    ids = batch.ids.tolist()
    assert drawn[40:] == [allowed(ids[at]) if batch.trainable[at] else [] for at in range(40, 55)]
    assert TokenBatch.of([delivered()]).sampling_mask is None


def test_a_batch_without_the_masks_that_its_rows_name_is_refused():
    with pytest.raises(UsageError, match=r"is not here; have it fetched first: FeedClient\.with_files"):
        TokenBatch.of([replayed(here=False)])


def test_a_token_shared_by_branches_trains_once():
    batch = TokenBatch.of([delivered()])
    rows = np.split(batch.trainable, batch.offsets[1:-1])
    assert rows[1].tolist() == [False] * 3 + [True] * 2 + [False] * 3 + [True] * 2
    assert rows[2].tolist() == [False] * 8 + [True] * 2  # its first turn trains in the row before it
    objective = k25_objective(batch, batch.logprobs, K25Settings(-0.7, 0.7, 0.1))
    worth = np.array([0.5, -0.5, -0.5, 0.0, 0.0])  # from the mean of the three
    expected = np.repeat(worth, batch.lengths) * batch.trainable / 12  # N: 4, 4 + 2 and 2 tokens
    np.testing.assert_allclose(objective.gradient, expected)


def test_a_refused_member_shifts_no_baseline_and_has_no_rows():
    group = decode_group(encode_group(closed_group(0, [0.0, 1.0, 100.0])))
    batch = TokenBatch.of([group], keep=lambda member: member.reward < 100.0)
    assert batch.advantages.tolist() == [-0.5, 0.5]
    assert TokenBatch.of([group], keep=lambda member: False).lengths.tolist() == []


def test_advantages_are_divided_by_the_deviation_where_asked():
    group = decode_group(encode_group(closed_group(0, [0.0, 1.0])))
    assert TokenBatch.of([group], by_std=True).advantages.tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)])
