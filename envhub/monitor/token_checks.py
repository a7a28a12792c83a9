"""Checks of one rollout's tokens: invariants 1, 2 and 3 of the design, over its turns and the rows made of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.token_file import TokenFile, TokenFileKind
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import Span, Turn
from envhub.errors import UsageError

Breach: TypeAlias = tuple[int, str]  # the invariant, and what breaks it


def turn_breaches(turns: Sequence[Turn], request: RolloutRequest) -> Iterator[Breach]:
    """What is wrong with the turns that a rollout recorded; rows can be made of them only where nothing is."""
    by_index: dict[int, Turn] = {}
    for turn in turns:
        if by_index.setdefault(turn.index, turn) is not turn:
            yield 3, f"turn {turn.index} is recorded twice: its tokens would train twice"
    for turn in by_index.values():
        of_turn = (
            _parent_breach(turn, by_index),
            _logprob_breach(turn),
            _span_breach(turn, request),
            _mask_breach(turn),
        )
        for breach in of_turn:
            if breach is not None:
                yield breach


def one_branch(turns: Sequence[Turn]) -> bool:
    """Whether each turn continues the one before it. Then there is one row, and it is these turns: where nothing is
    wrong with them, nothing can be wrong with it."""
    parents = [turn.parent for turn in turns]
    return parents == [None, *(turn.index for turn in turns[:-1])]


def row_breaches(turns: Sequence[Turn], rows: Sequence[Row]) -> Iterator[Breach]:
    """What is wrong with the rows made of turns that are themselves sound."""
    by_index = {turn.index: turn for turn in turns}
    trained = {turn.index: np.zeros(len(turn.output_ids), np.int32) for turn in turns}  # in how many rows, by token
    for number, row in enumerate(rows):
        branch = [by_index[index] for index in row.turns if index in by_index]
        breach = _row_breach(row, branch)
        if breach is not None:
            yield breach[0], f"row {number} {breach[1]}"
            return
        _count_training(row, branch, trained)
    for turn in turns:
        times = trained[turn.index]
        if not np.array_equal(times, _mask(turn.spans, len(times), trainable=True)):
            yield 3, f"turn {turn.index} trains in {times.min()} to {times.max()} rows; each trainable token must in 1"


def _parent_breach(turn: Turn, by_index: Mapping[int, Turn]) -> Breach | None:
    if turn.parent is None:
        return None
    parent = by_index.get(turn.parent)
    if parent is None:
        return 1, f"turn {turn.index} continues turn {turn.parent}, which is not recorded"
    if parent.index >= turn.index:
        return 1, f"turn {turn.index} continues turn {turn.parent}, which does not come before it"
    if parent.policy_id != turn.policy_id:
        return 1, f"turn {turn.index} of '{turn.policy_id}' continues turn {turn.parent} of '{parent.policy_id}'"
    return None


def _logprob_breach(turn: Turn) -> Breach | None:
    logprobs = turn.logprobs
    if len(logprobs) != len(turn.output_ids):
        return 2, f"turn {turn.index} has {len(turn.output_ids)} output ids and {len(logprobs)} logprobs"
    if len(logprobs) and not (logprobs.max() <= 0 and logprobs.min() > -np.inf):  # NaN is neither
        token = np.flatnonzero(~(np.isfinite(logprobs) & (logprobs <= 0)))[0]
        value = logprobs[token]
        return 2, f"turn {turn.index} has logprob {value} at output token {token}; it must be finite and <= 0"
    return None


def _span_breach(turn: Turn, request: RolloutRequest) -> Breach | None:
    if not _tile(turn.spans, len(turn.output_ids)):
        return 2, f"turn {turn.index} has spans that don't tile its {len(turn.output_ids)} output tokens"
    for span in turn.spans:
        wrong = _wrong_with(span, turn, request)
        if wrong:
            return 2, f"turn {turn.index} has tokens {span.start}..{span.end} {wrong}"
    return None


def _mask_breach(turn: Turn) -> Breach | None:
    masks = [file for file in turn.files if file.kind is TokenFileKind.SAMPLING_MASK]
    if turn.sampling.truncated and len(turn.output_ids) and not masks:
        return 2, f"turn {turn.index} was sampled from some ids alone, and has no sampling mask that says from which"
    return None


def file_breach(turn: Turn, file: TokenFile, data: bytes | None) -> Breach | None:
    """What is wrong with one of a turn's files, of which the store has this."""
    where = f"turn {turn.index} has a {file.kind} file {file.sha256[:12]}"
    if data is None or sha256(data).hexdigest() != file.sha256:
        return 2, f"{where}, which the store {'has not' if data is None else 'has with another content'}"
    prompt, end = len(turn.delta_ids), len(turn.delta_ids) + len(turn.output_ids)
    masks = file.kind is TokenFileKind.SAMPLING_MASK
    if (file.start, file.end) != (prompt, end) if masks else not -1 <= file.start <= file.end < end:
        return 2, f"{where} of tokens {file.start}..{file.end}; its own are {prompt}..{end} after a prompt of {prompt}"
    try:
        if not masks:
            replace(file, data=data).experts()
            return None
        mask = replace(file, data=data).mask()
    except UsageError as error:
        return 2, f"{where} that can't be: {error}"
    for token, id in enumerate(turn.output_ids):
        if id not in mask.at(token):
            return 2, f"{where}, by which output token {token} could not be {id}"
    return None


def _wrong_with(span: Span, turn: Turn, request: RolloutRequest) -> str:
    if span.sampled and span.policy_version < 0:
        return "sampled by no version of a policy"
    if span.trainable and not span.sampled:
        return "trainable but not sampled"
    if span.trainable and not (request.trainable and span.policy_id == turn.policy_id == request.policy_id):
        trained = f"'{request.policy_id}' trains" if request.trainable else "this rollout does not train"
        return f"trainable and by policy '{span.policy_id}'; {trained}"
    return ""


def _row_breach(row: Row, branch: Sequence[Turn]) -> Breach | None:
    if not branch or [turn.parent for turn in branch] != [None, *row.turns[:-1]]:
        return 1, f"is of turns {row.turns}, which are no branch"
    if not np.array_equal(
        row.ids, np.concatenate([ids for turn in branch for ids in (turn.delta_ids, turn.output_ids)])
    ):
        return 1, "does not hold the prompt and output of each of its turns, id for id"
    if not _tile(row.spans, len(row.ids)):
        return 2, f"has spans that don't tile its {len(row.ids)} tokens"
    if not np.array_equal(
        row.logprobs, np.concatenate([part for turn in branch for part in _padded(turn, turn.logprobs)])
    ):
        return 2, "has other logprobs than its turns"
    sampled = [part for turn in branch for part in _padded(turn, _mask(turn.spans, len(turn.output_ids)))]
    if not np.array_equal(row.mask(trainable=False), np.concatenate(sampled)):
        return 2, "calls other tokens sampled than its turns do"
    if (row.mask(trainable=True) & ~row.mask(trainable=False)).any():
        return 2, "trains tokens that were not sampled"
    return None


def _padded(turn: Turn, output: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Values of a turn's output after zeros for its delta."""
    return np.zeros(len(turn.delta_ids), output.dtype), output


def _count_training(row: Row, branch: Sequence[Turn], trained: Mapping[int, NDArray[np.int32]]) -> None:
    trains, end = row.mask(trainable=True), 0
    for turn in branch:
        start = end + len(turn.delta_ids)
        end = start + len(turn.output_ids)
        trained[turn.index][:] += trains[start:end]


def _tile(spans: Sequence[Span], length: int) -> bool:
    """Whether the spans, in order, cover [0, length) without a gap, an overlap or an empty one."""
    end = 0
    for span in spans:
        if span.start != end or span.end <= end:
            return False
        end = span.end
    return end == length


def _mask(spans: Sequence[Span], length: int, *, trainable: bool = False) -> NDArray[np.bool_]:
    mask = np.zeros(length, np.bool_)
    for span in spans:
        mask[span.start : span.end] = span.trainable if trainable else span.sampled
    return mask
