"""From the contracts' Delivery to the wire. Tokens cross as little-endian bytes, never token by token.

What the trainer has no use for (prompts, limits, usage) stays behind.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.ids import RolloutId, attempt_of
from envhub.contracts.outcome import Outcome
from envhub.contracts.token_file import TokenFile
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import NO_VERSION, PromptImage, Span
from envhub.errors import UsageError
from envhub.feed.codec import FILE_TO_WIRE, IDS, LOGPROBS, ROLE_TO_WIRE, STATUS_TO_WIRE
from envhub.feed.pieces import Pieces
from envhub.feed.v1 import feed_pb2 as pb

# Up to here protobuf makes a group in 2/3 of the time that its pieces take; at twice as much they are level.
SMALL_TOKENS = 32_768

NO_PARENT = RolloutId("")


def delivery_pieces(delivery: Delivery, group: Pieces | None = None) -> Pieces:
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
    return wire


def encode_group(group: ClosedGroup) -> bytes:
    """The Group on the wire.

    Raises:
        UsageError: a member without a valid score.
    """
    return group_pieces(group).join()


def group_pieces(group: ClosedGroup) -> Pieces:
    """As encode_group, before it is put together."""
    return Pieces(_small(group)) if tokens_of(group) <= SMALL_TOKENS else _large(group)


def tokens_of(group: ClosedGroup) -> int:
    """Of all its rows."""
    return sum(len(row.ids) for outcome in group.outcomes for _, row, _ in _rows(outcome))


def _small(group: ClosedGroup) -> pb.Group:
    """Whole, as protobuf makes it."""
    wire = _head(group)
    for index, outcome in zip(group.members, group.outcomes, strict=True):
        member = wire.members.add()
        _put_member(member, index, outcome)
        for by, row, parent in _rows(outcome):
            inner = member.rows.add(
                token_ids=row.ids.astype(IDS, copy=False).tobytes(),
                logprobs=row.logprobs.astype(LOGPROBS, copy=False).tobytes(),
            )
            _put_row(inner, by, row, parent)
    return wire


def _large(group: ClosedGroup) -> Pieces:
    """In pieces, whose arrays are copied once."""
    wire = Pieces(_head(group))
    for index, outcome in zip(group.members, group.outcomes, strict=True):
        message = pb.Member()
        _put_member(message, index, outcome)
        member = Pieces(message)
        for by, row, parent in _rows(outcome):
            inner = pb.Row()
            _put_row(inner, by, row, parent)
            pieces = Pieces(inner)
            pieces.add_array(pb.Row.TOKEN_IDS_FIELD_NUMBER, np.ascontiguousarray(row.ids, IDS))
            pieces.add_array(pb.Row.LOGPROBS_FIELD_NUMBER, np.ascontiguousarray(row.logprobs, LOGPROBS))
            member.add(pb.Member.ROWS_FIELD_NUMBER, pieces)
        wire.add(pb.Group.MEMBERS_FIELD_NUMBER, member)
    return wire


def _rows(outcome: Outcome, parent: RolloutId = NO_PARENT) -> Iterator[tuple[Outcome, Row, RolloutId]]:
    """Each row with the outcome of its rollout and the rollout that started that, parents first."""
    for row in outcome.trajectory.rows:
        yield outcome, row, parent
    for child in outcome.children:
        yield from _rows(child, outcome.rollout_id)


def _head(group: ClosedGroup) -> pb.Group:
    """Without its members."""
    rollout = group.request.rollout
    return pb.Group(
        run_id=group.run_id,
        group_id=group.group_id,
        number=group.number,
        environment=rollout.environment.id,
        task_id=rollout.task.id,
        k=group.request.k,
        policy_version=group.policy_version,
    )


def _put_member(wire: pb.Member, index: int, outcome: Outcome) -> None:
    """All but its rows."""
    if outcome.score is None or outcome.status not in STATUS_TO_WIRE:
        raise UsageError(
            f"member {index}, rollout '{outcome.rollout_id}', is {outcome.status} without a valid score; "
            "a closed group holds only members that have one"
        )
    versions = {span.policy_version for _, row, _ in _rows(outcome) for span in row.spans if span.trainable}
    wire.index = index
    wire.rollout_id = outcome.rollout_id
    wire.attempt = attempt_of(outcome.rollout_id)
    wire.status = STATUS_TO_WIRE[outcome.status]
    wire.truncated_by = outcome.truncated_by
    wire.reward = outcome.score.scalar
    wire.components.update(outcome.score.components)
    wire.oldest_version = min(versions, default=NO_VERSION)
    wire.newest_version = max(versions, default=NO_VERSION)


def _put_row(wire: pb.Row, by: Outcome, row: Row, parent: RolloutId) -> None:
    """All but its arrays."""
    wire.rollout_id = by.rollout_id
    wire.parent_rollout_id = parent
    for span in row.spans:
        _add_span(wire, span)
    if row.parent is not None:
        wire.parent_row = row.parent
    wire.fork_at = row.fork_at
    wire.prompt_length = next((span.start for span in row.spans if span.sampled), len(row.ids))
    wire.turns.extend(row.turns)
    wire.images.extend(map(_image, row.images))
    wire.files.extend(map(_file, row.files))
    if by.score is not None and by.score.turn_rewards:
        _put_rewards(wire, row, by.score.turn_rewards)


def _add_span(wire: pb.Row, span: Span) -> None:
    wire.spans.add(
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


def _put_rewards(wire: pb.Row, row: Row, rewards: Mapping[int, float]) -> None:
    """Those of its turns that no earlier row has."""
    ends = {span.turn: span.end for span in row.spans if span.sampled and span.end > row.fork_at}
    for turn, end in ends.items():
        if turn in rewards:
            wire.rewards.add(turn=turn, end=end, reward=rewards[turn])


def _file(file: TokenFile) -> pb.TokenFile:
    return pb.TokenFile(kind=FILE_TO_WIRE[file.kind], sha256=file.sha256, start=file.start, end=file.end)


def _image(shown: PromptImage) -> pb.Image:
    image = shown.image
    return pb.Image(
        sha256=image.sha256,
        media_type=image.media_type,
        width=image.width,
        height=image.height,
        start=shown.start,
        end=shown.end,
    )
