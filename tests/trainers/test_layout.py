"""Layouts by hand: places of the tokens 0, 1, 2 | 3, 4 | 5, 6, 7, 8."""

import numpy as np
import pytest

from envhub.errors import UsageError
from envhub.trainers.layout import packed, padded, positions, put, shifted, split, take
from tests.trainers.batches import batch_of

BATCH = batch_of([3, 2, 4], [1.0] * 3, trainable=[0, 1, 1, 0, 1, 0, 0, 1, 1], prompt_lengths=np.array([1, 1, 2]))
NONE = batch_of([], [])


def test_padded_rows_begin_at_the_left():
    assert padded(BATCH).tolist() == [[0, 1, 2, -1], [3, 4, -1, -1], [5, 6, 7, 8]]
    assert padded(NONE).shape == (0, 0)


def test_packed_rows_lie_end_to_end():
    assert packed(BATCH).tolist() == [list(range(9))]
    assert positions(BATCH, packed(BATCH)).tolist() == [[0, 1, 2, 0, 1, 0, 1, 2, 3]]


def test_split_rows_meet_where_sampling_began():
    prompts, completions = split(BATCH)
    assert prompts.tolist() == [[-1, 0], [-1, 3], [5, 6]]
    assert completions.tolist() == [[1, 2], [4, -1], [7, 8]]
    assert positions(BATCH, prompts).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_shifted_pairs_each_token_with_the_next_of_its_row():
    inputs, targets = shifted(BATCH, padded(BATCH))
    assert inputs.tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, 7]]
    assert targets.tolist() == [[1, 2, -1], [4, -1, -1], [6, 7, 8]]
    inputs, targets = shifted(BATCH, packed(BATCH))
    assert inputs.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert targets.tolist() == [[1, 2, -1, 4, -1, 6, 7, 8]]


def test_shift_refuses_a_token_that_nothing_predicts():
    bare = batch_of([2, 2], [1.0] * 2, trainable=[0, 1, 1, 1])
    with pytest.raises(UsageError, match="row 1 has no prompt"):
        shifted(bare, padded(bare))


def test_any_field_is_laid_out_and_padded():
    assert take(BATCH.ids, padded(BATCH)[:2], 7).tolist() == [[100, 101, 102, 7], [103, 104, 7, 7]]
    assert take(NONE.ids, np.full((1, 2), -1), 7).tolist() == [[7, 7]]
    assert take(BATCH.trainable, padded(BATCH)[:1], False).dtype == np.bool_


def test_what_was_laid_out_comes_back_to_its_tokens():
    places = padded(BATCH)[1:]
    tokens = np.zeros(9)
    put(tokens, places, take(np.arange(9.0) + 0.5, places, np.nan))
    assert tokens.tolist() == [0.0, 0.0, 0.0, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
