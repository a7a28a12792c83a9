"""Mismatch metrics against tables worked out by hand."""

import math

import numpy as np
import pytest

from envhub.trainers.batch import TokenBatch
from envhub.trainers.mismatch import mismatch

PAIR = TokenBatch(np.full(2, -1.0), np.ones(2, np.bool_), np.array([0, 2]), np.ones(1), np.zeros(1, np.int64))


def test_mismatch_of_a_table():
    result = mismatch(PAIR, np.array([-1.0 + math.log(2.0), -1.0 - math.log(2.0)]))  # w = 2, 1/2
    assert result.k1 == pytest.approx(0.0)
    assert result.k3 == pytest.approx(0.25)
    assert result.ess == pytest.approx(2.5**2 / (2 * 4.25))
    assert result.max_ratio == pytest.approx(2.0)


def test_mismatch_of_the_policy_with_itself_is_none():
    result = mismatch(PAIR, PAIR.logprobs)
    assert (result.k1, result.k3, result.ess, result.max_ratio) == (0.0, 0.0, 1.0, 1.0)


def test_tokens_that_do_not_train_are_not_counted():
    mixed = TokenBatch(np.full(2, -1.0), np.array([True, False]), np.array([0, 2]), np.ones(1), np.zeros(1, np.int64))
    assert mismatch(mixed, np.array([-1.0, -9.0])).max_ratio == 1.0


def test_ratio_beyond_all_bounds_is_told_as_infinite():
    far = TokenBatch(np.full(1, -2000.0), np.ones(1, np.bool_), np.array([0, 1]), np.ones(1), np.zeros(1, np.int64))
    assert mismatch(far, np.array([-1.0])).max_ratio == math.inf
