"""TokenBatch: the rows of some groups laid end to end, with the advantage of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.token_file import SamplingMask
from envhub.contracts.trajectory import Row
from envhub.errors import UsageError
from envhub.trainers.advantages import group_advantages

if TYPE_CHECKING:
    from envhub.feed.codec import TrainerGroup, TrainerMember

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]

BY_TOKEN = ("ids", "logprobs", "trainable", "temperatures", "versions")  # fields of a TokenBatch
BY_ROW = ("prompt_lengths", "advantages", "members", "groups")


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """R rows of T tokens in all; row r holds the tokens [offsets[r], offsets[r + 1]).

    Raises:
        UsageError: shapes that don't fit, or a trainable token whose logprob or advantage is not finite.
    """

    ids: Ints  # int64 [T]
    logprobs: Floats  # float64 [T], nats: as recorded when the tokens were sampled
    trainable: Bools  # bool [T]
    temperatures: Floats  # float64 [T], that tokens were sampled at; 0 where they were not sampled
    versions: Ints  # int64 [T], of the policy that sampled; -1 where none did
    offsets: Ints  # int64 [R + 1], from 0 to T, never falling
    prompt_lengths: Ints  # int64 [R], tokens before the first sampled one
    advantages: Floats  # float64 [R]; every token of a row has its row's
    members: Ints  # int64 [R], whose row it is: 0 to M - 1, each of one group
    groups: Ints  # int64 [R], the group of each row, 0 to G - 1
    sampling_mask: SamplingMask | None = None  # of the T tokens: what each was drawn from; no ids: from all there are

    def __post_init__(self) -> None:
        self._check_shapes()
        for name in ("groups", "members"):
            if getattr(self, name).size and getattr(self, name).min() < 0:
                raise UsageError(f"{name} has {getattr(self, name).min()}; number the {name} from 0")
        if not np.isfinite(self.logprobs[self.trainable]).all():
            raise UsageError("logprobs of trainable tokens must be finite; leave out what was not recorded")
        if not np.isfinite(self.token_advantages[self.trainable]).all():
            raise UsageError(
                "advantages of rows that train must be finite; leave out the rows of members without a valid score"
            )

    def _check_shapes(self) -> None:
        tokens, rows = self.logprobs.size, self.advantages.size
        shapes = {**dict.fromkeys(BY_TOKEN, (tokens,)), "offsets": (rows + 1,), **dict.fromkeys(BY_ROW, (rows,))}
        for name, expected in shapes.items():
            if getattr(self, name).shape != expected:
                raise UsageError(
                    f"{name} has shape {getattr(self, name).shape}; {tokens} tokens in {rows} rows need {expected}"
                )
        if self.sampling_mask is not None and len(self.sampling_mask) != tokens:
            raise UsageError(f"sampling_mask is of {len(self.sampling_mask)} tokens; it must be of all {tokens}")
        if self.trainable.dtype != np.bool_:
            raise UsageError(f"trainable has dtype {self.trainable.dtype}; it must be bool")
        if self.offsets[0] != 0 or self.offsets[-1] != tokens or (np.diff(self.offsets) < 0).any():
            raise UsageError(
                f"offsets run from {self.offsets[0]} to {self.offsets[-1]}; they must rise from 0 to {tokens}"
            )

    @property
    def lengths(self) -> Ints:
        """int64 [R], tokens of each row."""
        return np.diff(self.offsets)

    @property
    def token_advantages(self) -> Floats:
        """float64 [T]."""
        return np.repeat(self.advantages, self.lengths)

    @property
    def token_rows(self) -> Ints:
        """int64 [T], the row of each token."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @classmethod
    def of(
        cls,
        groups: "Sequence[TrainerGroup]",
        *,
        keep: "Callable[[TrainerMember], bool]" = lambda member: True,
        by_std: bool = False,
    ) -> "TokenBatch":
        """All rows of the groups as the feed delivered them, in order. A row of a rollout below a member has the
        member's advantage. What `keep` refuses is left out, of the baseline too; `by_std` as in group_advantages.

        Raises:
            UsageError: a row's sampling was truncated, and its masks are not here (FeedClient.with_files).
        """
        kept = [entry for number, group in enumerate(groups) for entry in _kept(number, group, keep, by_std)]
        rows = [row for _, member, _ in kept for row in member.rows]
        members = np.repeat(np.arange(len(kept)), [len(member.rows) for _, member, _ in kept])
        tokens = [row.row for row in rows]
        return cls(
            ids=_joined([row.ids for row in tokens], np.int64),
            logprobs=_joined([row.logprobs for row in tokens], np.float64),
            trainable=_joined([row.mask(trainable=True) for row in tokens], np.bool_),
            temperatures=_joined([of_spans(row, "temperature") for row in tokens], np.float64),
            versions=_joined([of_spans(row, "policy_version") for row in tokens], np.int64),
            offsets=np.cumsum([0, *(len(row.ids) for row in tokens)], dtype=np.int64),
            prompt_lengths=np.array([row.prompt_length for row in rows], np.int64),
            advantages=np.array([advantage for _, _, advantage in kept], np.float64)[members],
            members=members,
            groups=np.array([number for number, _, _ in kept], np.int64)[members],
            sampling_mask=_mask_of(tokens),
        )


def _kept(
    number: int, group: "TrainerGroup", keep: "Callable[[TrainerMember], bool]", by_std: bool
) -> "Iterator[tuple[int, TrainerMember, float]]":
    """The group's number, a member that was not refused, and its advantage."""
    valid = np.array([keep(member) for member in group.members], np.bool_)  # those without a score were never sent
    advantages = group_advantages(group.rewards, valid, by_std=by_std)
    for index in np.flatnonzero(valid):
        yield number, group.members[index], float(advantages[index])


def _mask_of(rows: "Sequence[Row]") -> SamplingMask | None:
    """Of all their tokens; None where none was drawn by truncated sampling."""
    masks = [row.sampling_mask() for row in rows]
    if all(mask is None for mask in masks):
        return None
    return SamplingMask.joined(
        [
            SamplingMask(np.zeros(len(row.ids) + 1, np.int32), np.empty(0, np.int32)) if mask is None else mask
            for row, mask in zip(rows, masks, strict=True)
        ]
    )


def of_spans(row: Row, field: str) -> NDArray[Any]:
    """[L]: of each token what its span has."""
    return np.repeat([getattr(span, field) for span in row.spans], [span.end - span.start for span in row.spans])


def _joined(arrays: "Sequence[NDArray[Any]]", dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *arrays], dtype=dtype)
