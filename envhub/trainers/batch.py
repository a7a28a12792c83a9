"""TokenBatch: the rows of some groups laid end to end, with the advantage of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.errors import UsageError
from envhub.trainers.advantages import group_advantages

if TYPE_CHECKING:
    from envhub.feed.client import TrainerGroup

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """R rows of T tokens in all; row r holds the tokens [offsets[r], offsets[r + 1]).

    Raises:
        UsageError: shapes that don't fit, or a trainable token whose logprob or advantage is not finite.
    """

    logprobs: Floats  # float64 [T], nats: as recorded when the tokens were sampled
    trainable: Bools  # bool [T]
    offsets: Ints  # int64 [R + 1], from 0 to T, never falling
    advantages: Floats  # float64 [R]; every token of a row has its row's
    groups: Ints  # int64 [R], the group of each row, 0 to G - 1

    def __post_init__(self) -> None:
        self._check_shapes()
        if self.groups.size and self.groups.min() < 0:
            raise UsageError(f"groups has {self.groups.min()}; number the groups from 0")
        if not np.isfinite(self.logprobs[self.trainable]).all():
            raise UsageError("logprobs of trainable tokens must be finite; leave out what was not recorded")
        if not np.isfinite(self.token_advantages[self.trainable]).all():
            raise UsageError(
                "advantages of rows that train must be finite; leave out the rows of members without a valid score"
            )

    def _check_shapes(self) -> None:
        tokens, rows = self.logprobs.size, self.advantages.size
        shapes = {"logprobs": (tokens,), "trainable": (tokens,), "offsets": (rows + 1,), "advantages": (rows,)}
        for name, expected in {**shapes, "groups": (rows,)}.items():
            if getattr(self, name).shape != expected:
                raise UsageError(
                    f"{name} has shape {getattr(self, name).shape}; {tokens} tokens in {rows} rows need {expected}"
                )
        if self.trainable.dtype != np.bool_:
            raise UsageError(f"trainable has dtype {self.trainable.dtype}; it must be bool")
        if self.offsets[0] != 0 or self.offsets[-1] != tokens or (np.diff(self.offsets) < 0).any():
            raise UsageError(
                f"offsets run from {self.offsets[0]} to {self.offsets[-1]}; they must rise from 0 to {tokens}"
            )

    @property
    def token_advantages(self) -> Floats:
        """float64 [T]."""
        return np.repeat(self.advantages, np.diff(self.offsets))

    @property
    def token_groups(self) -> Ints:
        """int64 [T]."""
        return np.repeat(self.groups, np.diff(self.offsets))

    @classmethod
    def of(cls, groups: "Sequence[TrainerGroup]") -> "TokenBatch":
        """All rows of the groups as the feed delivered them, in order. A row of a rollout below a member has the
        member's advantage."""
        rows, advantages, numbers = [], [], []
        for number, group in enumerate(groups):
            valid = np.ones(len(group.members), np.bool_)  # the feed delivers members with a valid score only
            for member, advantage in zip(group.members, group_advantages(group.rewards, valid), strict=True):
                rows += [row.row for row in member.rows]
                advantages += [advantage] * len(member.rows)
                numbers += [number] * len(member.rows)
        return cls(
            logprobs=np.concatenate([np.zeros(0), *(row.logprobs for row in rows)], dtype=np.float64),
            trainable=np.concatenate([np.zeros(0, np.bool_), *(row.mask(trainable=True) for row in rows)]),
            offsets=np.cumsum([0, *(len(row.ids) for row in rows)], dtype=np.int64),
            advantages=np.array(advantages, np.float64),
            groups=np.array(numbers, np.int64),
        )
