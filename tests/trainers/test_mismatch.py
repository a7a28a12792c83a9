"""Mismatch metrics against tables worked out by hand."""

import math

import numpy as np
import pytest

from envhub.trainers.mismatch import Mismatch, mismatch, mixed_share, staleness
from tests.trainers.batches import batch_of

PAIR = batch_of([2], [1.0])


def test_mismatch_of_a_table():
    result = mismatch(PAIR, np.array([-1.0 + math.log(2.0), -1.0 - math.log(2.0)]))  # w = 2, 1/2
    assert result.k1 == pytest.approx(0.0)
    assert result.k3 == pytest.approx(0.25)
    assert result.ess == pytest.approx(2.5**2 / (2 * 4.25))
    assert result.max_ratio == pytest.approx(2.0)


def test_mismatch_of_the_policy_with_itself_is_none():
    result = mismatch(PAIR, PAIR.logprobs)
    assert result == Mismatch(k1=0.0, k3=0.0, ess=1.0, max_ratio=1.0, ppl_ratio=1.0)


def test_tokens_that_do_not_train_are_not_counted():
    mixed = batch_of([2], [1.0], trainable=[1, 0])
    assert mismatch(mixed, np.array([-1.0, -9.0])).max_ratio == 1.0


def test_ratio_beyond_all_bounds_is_told_as_infinite():
    far = batch_of([1], [1.0], logprobs=[-2000.0])
    assert mismatch(far, np.array([-1.0])).max_ratio == math.inf


def test_perplexity_ratio_is_the_mean_over_rows_that_train():
    rows = batch_of([2, 3, 1], [1.0] * 3, trainable=[1, 1, 1, 0, 1, 0])
    new = np.array([-1.0, -3.0, -1.0, 0.0, -1.0, -9.0])  # perplexity rises by e in the first row, not in the second
    assert mismatch(rows, new).ppl_ratio == pytest.approx((math.e + 1.0) / 2)


def test_staleness_counts_trainable_tokens_by_age():
    rows = batch_of([5], [1.0], trainable=[0, 1, 1, 1, 1], versions=np.array([-1, 3, 3, 5, 4]))
    assert staleness(rows, 5) == {0: 1, 1: 1, 2: 2}


def test_mixed_rows_train_on_tokens_of_several_versions():
    versions = np.array([-1, 3, 4, -1, 3, 3, -1, 4, 5, 2])
    trainable = [0, 1, 1, 0, 1, 1, 0, 0, 1, 1]
    assert mixed_share(batch_of([3, 3, 2, 1, 1], [1.0] * 5, trainable=trainable, versions=versions)) == 1 / 4
