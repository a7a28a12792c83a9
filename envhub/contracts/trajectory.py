"""Trajectory: what a rollout gives to training, one row a branch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.turn import Ids, Logprobs, Span


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One branch, from its first token to its last. A sampled span shared by several rows trains in exactly one."""

    ids: Ids  # int32 [L]
    logprobs: Logprobs  # float32 [L], nats; 0 where the token was not sampled
    spans: tuple[Span, ...]  # tile ids
    turns: tuple[int, ...]  # indices of the turns on this branch
    parent: int | None = None  # the earlier row that it shares a prefix with
    fork_at: int = 0  # length of that prefix, tokens

    def mask(self, *, trainable: bool) -> NDArray[np.bool_]:
        """bool [L]: the tokens that train, or all that were sampled."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        for span in self.spans:
            mask[span.start : span.end] = span.trainable if trainable else span.sampled
        return mask


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """All rows of one rollout; none where no model call was made."""

    rows: tuple[Row, ...] = ()
