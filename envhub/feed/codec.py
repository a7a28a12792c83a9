"""From the wire to the numpy records that a trainer gets; encoding.py is the other way."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId, PolicyVersion, RolloutId, RunId, TaskId
from envhub.contracts.messages import Image, Role
from envhub.contracts.outcome import Status
from envhub.contracts.token_file import TokenFile, TokenFileKind
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import PromptImage, Span
from envhub.feed.v1 import feed_pb2 as pb

IDS = np.dtype("<i4")
LOGPROBS = np.dtype("<f4")

ROLE_TO_WIRE = {role: pb.Role.Value(f"ROLE_{role.name}") for role in Role}
ROLE_FROM_WIRE = {number: role for role, number in ROLE_TO_WIRE.items()}
# The feed knows no failed or cancelled members: they have no valid score, so no group delivers them.
STATUS_TO_WIRE = {status: pb.Status.Value(f"STATUS_{status.name}") for status in (Status.COMPLETED, Status.TRUNCATED)}
FILE_TO_WIRE = {kind: pb.TokenFile.Kind.Value(f"KIND_{kind.name}") for kind in TokenFileKind}
FILE_FROM_WIRE = {number: kind for kind, number in FILE_TO_WIRE.items()}
STATUS_FROM_WIRE = {number: status for status, number in STATUS_TO_WIRE.items()}


@dataclass(frozen=True, slots=True)
class TurnReward:
    """What one turn earned by itself: a part of its rollout's scalar."""

    turn: int
    end: int  # of the row: one past the turn's last token
    reward: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainerRow:
    """One branch of a member's rollout, or of a rollout below it. Its arrays are read-only views of the message."""

    rollout_id: RolloutId
    parent_rollout_id: RolloutId | None  # the rollout that started this one; None for the member's own
    row: Row  # `row.parent` counts among the rows of the same rollout
    prompt_length: int  # tokens before the first sampled one; all of them where none was sampled
    rewards: tuple[TurnReward, ...] = ()  # of its turns that no earlier row has, in order; of those that earned any


@dataclass(frozen=True, slots=True, eq=False)
class TrainerMember:
    """One scored member of a group, with all its rows: those of its own rollout first."""

    index: int
    rollout_id: RolloutId
    attempt: int
    status: Status
    truncated_by: str
    reward: float
    components: Mapping[str, float]
    rows: tuple[TrainerRow, ...]


@dataclass(frozen=True, slots=True, eq=False)
class TrainerGroup:
    """The members of one task that have a valid score: at most `k`, in order of their index."""

    run_id: RunId
    group_id: GroupId
    number: int
    environment: EnvironmentId
    task_id: TaskId
    k: int
    policy_version: PolicyVersion  # the newest announced when it closed
    members: tuple[TrainerMember, ...]

    @property
    def rewards(self) -> NDArray[np.float64]:
        """float64 [members]."""
        return np.array([member.reward for member in self.members], dtype=np.float64)


def decode_group(data: bytes) -> TrainerGroup:
    """A serialized Group as numpy records.

    Raises:
        ValueError: tokens and logprobs of a row differ in length.
    """
    return read_group(pb.Group.FromString(data))


def read_group(group: pb.Group) -> TrainerGroup:
    """The group as numpy records, without a further copy of its tokens.

    Raises:
        ValueError: tokens and logprobs of a row differ in length.
    """
    return TrainerGroup(
        run_id=RunId(group.run_id),
        group_id=GroupId(group.group_id),
        number=group.number,
        environment=EnvironmentId(group.environment),
        task_id=TaskId(group.task_id),
        k=group.k,
        policy_version=PolicyVersion(group.policy_version),
        members=tuple(_decode_member(member) for member in group.members),
    )


def _decode_member(member: pb.Member) -> TrainerMember:
    return TrainerMember(
        index=member.index,
        rollout_id=RolloutId(member.rollout_id),
        attempt=member.attempt,
        status=STATUS_FROM_WIRE[member.status],
        truncated_by=member.truncated_by,
        reward=member.reward,
        components=dict(member.components),
        rows=tuple(_decode_row(row) for row in member.rows),
    )


def _decode_row(row: pb.Row) -> TrainerRow:
    ids = np.frombuffer(row.token_ids, dtype=IDS)
    logprobs = np.frombuffer(row.logprobs, dtype=LOGPROBS)
    if len(ids) != len(logprobs):
        raise ValueError(f"a row of rollout '{row.rollout_id}' has {len(ids)} tokens but {len(logprobs)} logprobs")
    return TrainerRow(
        rollout_id=RolloutId(row.rollout_id),
        parent_rollout_id=RolloutId(row.parent_rollout_id) if row.parent_rollout_id else None,
        row=Row(
            ids=ids,
            logprobs=logprobs,
            spans=tuple(_decode_span(span) for span in row.spans),
            turns=tuple(row.turns),
            parent=row.parent_row if row.HasField("parent_row") else None,
            fork_at=row.fork_at,
            images=tuple(map(_decode_image, row.images)),
            files=tuple(_decode_file(file) for file in row.files if file.kind in FILE_FROM_WIRE),
        ),
        prompt_length=row.prompt_length,
        rewards=tuple(TurnReward(earned.turn, earned.end, earned.reward) for earned in row.rewards),
    )


def _decode_file(file: pb.TokenFile) -> TokenFile:
    """Without its bytes, for which the feed is asked (FeedClient.with_files). A kind that only a newer server knows is
    left out."""
    return TokenFile(FILE_FROM_WIRE[file.kind], file.sha256, file.start, file.end)


def _decode_image(shown: pb.Image) -> PromptImage:
    """The picture without its file and its place in the text: those stay with the run."""
    image = Image(shown.sha256, shown.media_type, shown.width, shown.height)
    return PromptImage(image, shown.start, shown.end)


def _decode_span(span: pb.Span) -> Span:
    return Span(
        start=span.start,
        end=span.end,
        role=ROLE_FROM_WIRE[span.role],
        sampled=span.sampled,
        trainable=span.trainable,
        policy_id=PolicyId(span.policy_id),
        policy_version=PolicyVersion(span.policy_version),
        temperature=span.temperature,
        turn=span.turn,
    )
