"""TokenBatch: what fits together, and what the feed's groups become."""

import dataclasses

import numpy as np
import pytest

from envhub.errors import UsageError
from envhub.feed.codec import decode_group, encode_group
from envhub.testing.fake_deliveries import closed_group
from envhub.trainers.batch import TokenBatch

BATCH = TokenBatch(np.zeros(4), np.ones(4, np.bool_), np.array([0, 2, 4]), np.array([1.0, -1.0]), np.zeros(2, np.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainable": np.ones(3, np.bool_)}, r"trainable has shape \(3,\)"),
        ({"trainable": np.ones(4, np.int64)}, "trainable has dtype int64"),
        ({"offsets": np.array([0, 3, 2])}, "must rise from 0 to 4"),
        ({"offsets": np.array([1, 2, 4])}, "must rise from 0 to 4"),
        ({"groups": np.array([0, -1])}, "number the groups from 0"),
        ({"logprobs": np.array([0.0, -np.inf, 0.0, 0.0])}, "logprobs of trainable tokens must be finite"),
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
    assert batch.trainable.reshape(5, 7).tolist() == [[False] * 3 + [True] * 4] * 5
    assert batch.logprobs[batch.trainable].tolist() == [-0.5] * 20


def test_rows_of_children_have_the_advantage_of_their_member():
    group = closed_group(0, [0.0, 1.0])
    parent = group.outcomes[1]
    child = dataclasses.replace(parent, rollout_id=f"{parent.rollout_id}.0", score=None)
    group = dataclasses.replace(group, outcomes=(group.outcomes[0], dataclasses.replace(parent, children=(child,))))
    batch = TokenBatch.of([decode_group(encode_group(group))])
    assert batch.advantages.tolist() == [-0.5, 0.5, 0.5]
