"""Samples: the rows of a group that train, each with all that an adapter needs of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.outcome import Status
from envhub.contracts.token_file import Experts, SamplingMask, TokenFileKind
from envhub.contracts.turn import Ids, Logprobs
from envhub.feed.codec import TrainerGroup, TrainerMember, TrainerRow
from envhub.trainers.advantages import group_advantages
from envhub.trainers.batch import Bools


class Rows(StrEnum):
    """How many rows a member may give. What trains nothing is never one: the rows of frozen sub-agents."""

    ALL = "all"  # each branch and each trained sub-agent
    ONE = "one"  # the row that trains the most tokens, the first of these: the others' tokens are lost


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A row that trains. Its response begins with the first token that was sampled."""

    group: TrainerGroup
    member: TrainerMember
    row: TrainerRow
    trainable: Bools  # bool [L]
    advantage: float

    @property
    def ids(self) -> Ids:
        return self.row.row.ids

    @property
    def logprobs(self) -> Logprobs:
        return self.row.row.logprobs

    @property
    def prompt(self) -> slice:
        return slice(0, self.row.prompt_length)

    @property
    def response(self) -> slice:
        return slice(self.row.prompt_length, len(self.ids))

    @property
    def truncated(self) -> bool:
        return self.member.status is Status.TRUNCATED

    @property
    def versions(self) -> tuple[int, int]:
        """The oldest and the newest policy version among the tokens that train."""
        versions = [span.policy_version for span in self.row.row.spans if span.trainable]
        return min(versions), max(versions)

    @property
    def turn_rewards(self) -> NDArray[np.float32]:
        """float32 [L]: at the last token of each turn what it earned by itself, 0 elsewhere."""
        rewards = np.zeros(len(self.ids), np.float32)
        for earned in self.row.rewards:
            rewards[earned.end - 1] += earned.reward
        return rewards

    @property
    def experts(self) -> Experts | None:
        """[L - 1, layers, k]: of all tokens but the last, which no model read. None where some are not known, or not
        here: `FeedClient.with_files` brings them."""
        experts = self.row.row.routed_experts() if self._has(TokenFileKind.ROUTED_EXPERTS) else None
        return experts if experts is not None and len(experts) == len(self.ids) - 1 else None

    @property
    def sampling_mask(self) -> SamplingMask | None:
        """Of all L tokens. None where sampling was not truncated, or as of `experts`."""
        return self.row.row.sampling_mask() if self._has(TokenFileKind.SAMPLING_MASK) else None

    def _has(self, kind: TokenFileKind) -> bool:
        return all(file.data for file in self.row.row.files if file.kind is kind)

    @property
    def advantages(self) -> NDArray[np.float32]:
        """float32 [L], 0 where a token does not train."""
        return np.where(self.trainable, np.float32(self.advantage), np.float32(0.0))


def samples(group: TrainerGroup, rows: Rows = Rows.ALL, *, by_std: bool = False) -> list[Sample]:
    """The group's samples, member by member; `by_std` as in group_advantages. Rows of a member have its advantage."""
    valid = np.ones(len(group.members), np.bool_)  # the feed delivers members with a valid score only
    advantages = group_advantages(group.rewards, valid, by_std=by_std)
    chosen: list[Sample] = []
    for member, advantage in zip(group.members, advantages.tolist(), strict=True):
        of_member = list(_trained(group, member, advantage))
        if rows is Rows.ONE and of_member:
            of_member = [max(of_member, key=lambda sample: int(sample.trainable.sum()))]
        chosen += of_member
    return chosen


def _trained(group: TrainerGroup, member: TrainerMember, advantage: float) -> Iterator[Sample]:
    for row in member.rows:
        trainable = row.row.mask(trainable=True)
        if trainable.any():
            yield Sample(group, member, row, trainable, advantage)
