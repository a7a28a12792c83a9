"""Rows: the turns of a rollout as what training reads, one row a branch."""

from collections.abc import Sequence

import numpy as np

from envhub.contracts.messages import Role
from envhub.contracts.token_file import TokenFile
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import PromptImage, Span, Turn
from envhub.errors import UsageError


def trajectory(turns: Sequence[Turn]) -> Trajectory:
    """The rows of these turns; see `rows_of`."""
    return Trajectory(rows_of(turns))


def rows_of(turns: Sequence[Turn]) -> tuple[Row, ...]:
    """One row for each turn that no other continues, in order of these turns' indices.

    What rows share is whole turns: a row's `parent` is the earlier row with which it shares most of them, and its
    `fork_at` the length of these. A shared span trains in the first row that has it. Between two samples lies one
    context span, with the role of its last message: a template may write several messages as one.

    Raises:
        UsageError: a turn continues one that is not among `turns`.
    """
    by_index = {turn.index: turn for turn in sorted(turns, key=lambda turn: turn.index)}
    continued = {turn.parent for turn in by_index.values()}
    rows: list[Row] = []
    row_of: dict[int, int] = {}  # the first row that has a turn
    for index in by_index:
        if index not in continued:
            rows.append(_row(_branch(by_index, index), row_of))
            for turn in rows[-1].turns:
                row_of.setdefault(turn, len(rows) - 1)
    return tuple(rows)


def _branch(turns: dict[int, Turn], leaf: int) -> list[Turn]:
    """From the root to the leaf."""
    branch: list[Turn] = []
    index: int | None = leaf
    while index is not None:
        if index not in turns:
            raise UsageError(f"turn {branch[-1].index} continues turn {index}, which is missing; give all turns")
        branch.append(turns[index])
        index = turns[index].parent
    return branch[::-1]


def _row(branch: Sequence[Turn], row_of: dict[int, int]) -> Row:
    spans: list[Span] = []
    images: list[PromptImage] = []
    files: list[TokenFile] = []
    parent, fork_at = None, 0
    for turn in branch:
        known = row_of.get(turn.index)
        start = spans[-1].end if spans else 0
        images += (image.moved(start) for image in turn.images)
        files += (file.moved(start) for file in turn.files)
        spans += _spans(turn, start, trains=known is None)
        if known is not None:
            parent, fork_at = known, start + len(turn.delta_ids) + len(turn.output_ids)
    ids = np.concatenate([ids for turn in branch for ids in (turn.delta_ids, turn.output_ids)])
    logprobs = np.zeros(len(ids), np.float32)
    end = 0
    for turn in branch:
        start = end + len(turn.delta_ids)
        end = start + len(turn.output_ids)
        logprobs[start:end] = turn.logprobs
    return Row(
        ids=ids,
        logprobs=logprobs,
        spans=tuple(spans),
        turns=tuple(turn.index for turn in branch),
        parent=parent,
        fork_at=fork_at,
        images=tuple(images),
        files=tuple(files),
    )


def _spans(turn: Turn, start: int, *, trains: bool) -> list[Span]:
    """Of a turn's delta and output, where its delta begins at `start` of the row."""
    offset = start + len(turn.delta_ids)
    role = turn.messages[-1].role if turn.messages else Role.ASSISTANT  # none new: it writes on after its own message
    spans = [Span(start, offset, role, turn=turn.index)] if offset > start else []
    for span in turn.spans:
        spans.append(
            Span(
                offset + span.start,
                offset + span.end,
                span.role,
                sampled=span.sampled,
                trainable=span.trainable and trains,
                policy_id=span.policy_id,
                policy_version=span.policy_version,
                temperature=span.temperature,
                turn=span.turn,
            )
        )
    return spans
