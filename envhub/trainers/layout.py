"""Layouts: where each token of a TokenBatch lies in the arrays that a model reads.

A layout is an array of places: indices into the batch's tokens, and -1 for padding. `take` lays out any field of the
batch by it, so each layout is written once, for all fields and for numpy and torch alike.

| padded    | [R, L]            rows from the left, padding behind                                                    |
| packed    | [1, T]            rows end to end; the batch's offsets are their cumulative lengths                 |
| split     | [R, P], [R, C]    prompts, padding before them; and all that follows them, padding behind               |
| shifted   | [..., L - 1] x 2  what a model reads, and what it has to say next: -1 where another row begins          |
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from envhub.errors import UsageError
from envhub.trainers.batch import Ints, TokenBatch

T = TypeVar("T", bound=np.generic)

PADDING = -1


def padded(batch: TokenBatch) -> Ints:
    """int64 [R, L], L the longest row's."""
    return _from_left(batch.offsets[:-1], batch.lengths)


def packed(batch: TokenBatch) -> Ints:
    """int64 [1, T]."""
    return np.arange(batch.offsets[-1], dtype=np.int64)[np.newaxis]


def split(batch: TokenBatch) -> tuple[Ints, Ints]:
    """int64 [R, P] and [R, C]: prompts against their right edge, and what follows them against the left."""
    starts, prompts = batch.offsets[:-1], batch.prompt_lengths
    reversed_prompts = _from_left(np.zeros_like(starts), prompts)  # counted from the prompt's end
    ends = (starts + prompts - 1)[:, np.newaxis]
    before = np.where(reversed_prompts == PADDING, PADDING, ends - reversed_prompts)[:, ::-1]
    return before, _from_left(starts + prompts, batch.lengths - prompts)


def shifted(batch: TokenBatch, places: Ints) -> tuple[Ints, Ints]:
    """Two arrays one shorter: the token that a model reads, and the next one of the same row, or -1.

    Raises:
        UsageError: a row begins with a token that trains: nothing before it could have predicted it.
    """
    firsts = batch.offsets[:-1][batch.lengths > 0]
    if batch.trainable[firsts].any():
        row = int(np.flatnonzero(batch.trainable[firsts])[0])
        raise UsageError(
            f"row {row} has no prompt: its first token trains, but nothing predicts it; leave that row out"
        )
    inputs, targets = places[..., :-1], places[..., 1:]
    return inputs, np.where(np.isin(targets, firsts), PADDING, targets)


def positions(batch: TokenBatch, places: Ints) -> Ints:
    """Where each token stands in its row, from 0; 0 for padding."""
    of_tokens = np.arange(batch.offsets[-1]) - np.repeat(batch.offsets[:-1], batch.lengths)
    return take(of_tokens, places, 0)


def take(values: NDArray[T], places: Ints, padding: float) -> NDArray[T]:
    """[shape of places], of the values' dtype."""
    if not values.size:
        return np.full(places.shape, padding, values.dtype)
    taken = values[places]
    taken[places == PADDING] = padding
    return taken


def put(tokens: NDArray[T], places: Ints, values: NDArray[T]) -> None:
    """The way back: writes values [shape of places] to their `tokens` [T]. Padding's are left out, and tokens that have
    no place stay as they are."""
    present = places != PADDING
    tokens[places[present]] = values[present]


def _from_left(starts: Ints, lengths: Ints) -> Ints:
    columns = np.arange(lengths.max(initial=0))
    return np.where(columns < lengths[:, np.newaxis], starts[:, np.newaxis] + columns, PADDING)
