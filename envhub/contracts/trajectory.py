"""Trajectory: what a rollout gives to training, one row a branch."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.token_file import Experts, SamplingMask, TokenFile, TokenFileKind
from envhub.contracts.turn import Ids, Logprobs, PromptImage, Span


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One branch, from its first token to its last. A sampled span shared by several rows trains in exactly one."""

    ids: Ids  # int32 [L]
    logprobs: Logprobs  # float32 [L], nats; 0 where the token was not sampled
    spans: tuple[Span, ...]  # tile ids
    turns: tuple[int, ...]  # indices of the turns on this branch
    parent: int | None = None  # the earlier row that it shares a prefix with
    fork_at: int = 0  # length of that prefix, tokens
    images: tuple[PromptImage, ...] = ()  # that ids stand for, in order of `start`
    files: tuple[TokenFile, ...] = ()  # of ids, turn by turn

    def mask(self, *, trainable: bool) -> NDArray[np.bool_]:
        """bool [L]: the tokens that train, or all that were sampled."""
        mask = np.zeros(len(self.ids), dtype=np.bool_)
        for span in self.spans:
            mask[span.start : span.end] = span.trainable if trainable else span.sampled
        return mask

    def sampling_mask(self) -> SamplingMask | None:
        """What each of the L tokens was drawn from, no ids where it was not drawn, or from all there are. None where
        that is so of every token.

        Raises:
            UsageError: a file of it is not here.
        """
        files = [file for file in self.files if file.kind is TokenFileKind.SAMPLING_MASK]
        if not files:
            return None
        masks = [file.mask() for file in files]
        sizes = np.zeros(len(self.ids), np.int32)
        for file, mask in zip(files, masks, strict=True):
            sizes[file.start : file.end] = np.diff(mask.offsets)
        return SamplingMask(np.cumsum([0, *sizes], dtype=np.int32), SamplingMask.joined(masks).ids)

    def routed_experts(self) -> Experts | None:
        """[n, layers, k] of the first n tokens: all but the last, which the model never read, or fewer where a later
        turn's are not known. None where those of the first token are not.

        Raises:
            UsageError: a file of it is not here.
        """
        parts: list[Experts] = []
        end = 0
        for file in self.files:
            if file.kind is TokenFileKind.ROUTED_EXPERTS and file.start <= end < file.end:
                parts.append(file.experts()[end - file.start :])
                end = file.end
        return np.concatenate(parts) if parts else None


class Trajectory:
    """All rows of one rollout; none where no model call was made."""

    __slots__ = ("_rows",)

    def __init__(self, rows: tuple[Row, ...] | Callable[[], tuple[Row, ...]] = ()) -> None:
        """Instead of the rows, what makes them once somebody asks: only a trainer does."""
        self._rows = rows

    @property
    def rows(self) -> tuple[Row, ...]:
        if callable(self._rows):
            self._rows = self._rows()
        return self._rows
