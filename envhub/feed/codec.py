"""Between the contracts' Delivery, the wire, and the numpy records that a trainer gets.

Tokens cross as little-endian bytes, never token by token.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId, PolicyVersion, RolloutId, RunId, TaskId, attempt_of
from envhub.contracts.messages import Image, Role
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import NO_VERSION, PromptImage, Span
from envhub.errors import UsageError
from envhub.feed.pieces import Pieces
from envhub.feed.v1 import feed_pb2 as pb

IDS = np.dtype("<i4")
LOGPROBS = np.dtype("<f4")

ROLE_TO_WIRE = {role: pb.Role.Value(f"ROLE_{role.name}") for role in Role}
ROLE_FROM_WIRE = {number: role for role, number in ROLE_TO_WIRE.items()}
# The feed knows no failed or cancelled members: they have no valid score, so no group delivers them.
STATUS_TO_WIRE = {status: pb.Status.Value(f"STATUS_{status.name}") for status in (Status.COMPLETED, Status.TRUNCATED)}
STATUS_FROM_WIRE = {number: status for status, number in STATUS_TO_WIRE.items()}


@dataclass(frozen=True, slots=True, eq=False)
class TrainerRow:
    """One branch of a member's rollout, or of a rollout below it. Its arrays are read-only views of the message."""

    rollout_id: RolloutId
    parent_rollout_id: RolloutId | None  # the rollout that started this one; None for the member's own
    row: Row  # `row.parent` counts among the rows of the same rollout
    prompt_length: int  # tokens before the first sampled one; all of them where none was sampled


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


def encode_delivery(delivery: Delivery, group: Pieces | None = None) -> bytes:
    """The Delivery on the wire; its group may be encoded already.

    Raises:
        UsageError: a member without a valid score.
    """
    wire = Pieces(
        pb.Delivery(
            lease_id=delivery.lease_id, deadline=delivery.deadline, count=delivery.count, lease_s=delivery.lease_s
        )
    )
    wire.add(pb.Delivery.GROUP_FIELD_NUMBER, group or group_pieces(delivery.group))
    return wire.join()


def encode_group(group: ClosedGroup) -> bytes:
    """The Group on the wire; what the trainer has no use for (prompts, limits, usage) stays behind.

    Raises:
        UsageError: a member without a valid score.
    """
    return group_pieces(group).join()


def group_pieces(group: ClosedGroup) -> Pieces:
    """As encode_group, before it is put together."""
    rollout = group.request.rollout
    wire = Pieces(
        pb.Group(
            run_id=group.run_id,
            group_id=group.group_id,
            number=group.number,
            environment=rollout.environment.id,
            task_id=rollout.task.id,
            k=group.request.k,
            policy_version=group.policy_version,
        )
    )
    for index, outcome in zip(group.members, group.outcomes, strict=True):
        wire.add(pb.Group.MEMBERS_FIELD_NUMBER, _member_pieces(index, outcome))
    return wire


def decode_group(data: bytes) -> TrainerGroup:
    """The group of encode_group, as numpy records.

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


def _member_pieces(index: int, outcome: Outcome) -> Pieces:
    if outcome.score is None or outcome.status not in STATUS_TO_WIRE:
        raise UsageError(
            f"member {index}, rollout '{outcome.rollout_id}', is {outcome.status} without a valid score; "
            "a closed group holds only members that have one"
        )
    versions = {span.policy_version for span in _trained(outcome)}
    wire = Pieces(
        pb.Member(
            index=index,
            rollout_id=outcome.rollout_id,
            attempt=attempt_of(outcome.rollout_id),
            status=STATUS_TO_WIRE[outcome.status],
            truncated_by=outcome.truncated_by,
            reward=outcome.score.scalar,
            components=outcome.score.components,
            oldest_version=min(versions, default=NO_VERSION),
            newest_version=max(versions, default=NO_VERSION),
        )
    )
    for row in _row_pieces_of(outcome, ""):
        wire.add(pb.Member.ROWS_FIELD_NUMBER, row)
    return wire


def _trained(outcome: Outcome) -> Iterator[Span]:
    for one in outcome.tree():
        for row in one.trajectory.rows:
            yield from (span for span in row.spans if span.trainable)


def _row_pieces_of(outcome: Outcome, parent: str) -> Iterator[Pieces]:
    for row in outcome.trajectory.rows:
        yield _row_pieces(row, outcome.rollout_id, parent)
    for child in outcome.children:
        yield from _row_pieces_of(child, outcome.rollout_id)


def _row_pieces(row: Row, rollout_id: str, parent: str) -> Pieces:
    wire = Pieces(
        pb.Row(
            rollout_id=rollout_id,
            parent_rollout_id=parent,
            spans=[_encode_span(span) for span in row.spans],
            parent_row=row.parent,
            fork_at=row.fork_at,
            prompt_length=next((span.start for span in row.spans if span.sampled), len(row.ids)),
            turns=row.turns,
            images=map(_encode_image, row.images),
        )
    )
    wire.add_array(pb.Row.TOKEN_IDS_FIELD_NUMBER, np.ascontiguousarray(row.ids, IDS))
    wire.add_array(pb.Row.LOGPROBS_FIELD_NUMBER, np.ascontiguousarray(row.logprobs, LOGPROBS))
    return wire


def _encode_image(shown: PromptImage) -> pb.Image:
    image = shown.image
    return pb.Image(
        sha256=image.sha256,
        media_type=image.media_type,
        width=image.width,
        height=image.height,
        start=shown.start,
        end=shown.end,
    )


def _encode_span(span: Span) -> pb.Span:
    return pb.Span(
        start=span.start,
        end=span.end,
        role=ROLE_TO_WIRE[span.role],
        sampled=span.sampled,
        trainable=span.trainable,
        policy_id=span.policy_id,
        policy_version=span.policy_version,
        temperature=span.temperature,
        turn=span.turn,
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
        ),
        prompt_length=row.prompt_length,
    )


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
