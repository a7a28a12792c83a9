"""What a run recorded, as files for a program that trains or counts."""

import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from envhub.cli.closed_groups import closed_groups
from envhub.contracts.events import RolloutEnded, RolloutStarted, TurnRecorded
from envhub.contracts.ids import GroupId, RolloutId, RunId
from envhub.contracts.score import Score
from envhub.contracts.store import TraceStore
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import Turn
from envhub.errors import UsageError
from envhub.tokens.rows import trajectory
from envhub.trainers.datasets import ChatExample, Chooser, Origin, TokenExample


class Format(StrEnum):
    """What a file holds: JSON lines, each of one branch of a scored rollout, or Parquet."""

    ROWS = "rows"  # ids, logprobs, what was sampled, what trains
    TOKENS = "tokens"  # the same, with the columns of a dataset for supervised training
    CHAT = "chat"  # the conversation
    PARQUET = "parquet"  # whole groups, exactly

    @property
    def is_dataset(self) -> bool:
        return self in (Format.TOKENS, Format.CHAT)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """A rollout that has a valid score."""

    start: RolloutStarted
    turns: Sequence[Turn]
    score: Score

    @property
    def origin(self) -> Origin:
        start = self.start
        environment, task = start.request.environment.id, start.request.task.id
        return Origin(start.group_id, start.member, start.rollout_id, environment, task, self.score.scalar)


async def export(
    store: TraceStore, run_id: RunId, file: Path, format: Format = Format.ROWS, chooser: Chooser | None = None
) -> int:
    """Writes what the run has in a format, and of a dataset what is chosen. Returns how many lines, or groups of
    Parquet. The file `-` is stdout.

    Raises:
        UsageError: the file can't be written.
    """
    if format is Format.PARQUET:
        return await _export_groups(store, run_id, file)
    count = 0
    with _opened(file) as target:
        async for rollout in _scored(store, run_id):
            for line in _lines(rollout, format, chooser or Chooser()):
                target.write(json.dumps(line) + "\n")
                count += 1
    return count


@contextmanager
def destination(file_or_url: str) -> Iterator[Path]:
    """The file, or one that goes to the URL at the end.

    Raises:
        UsageError: nothing can be written there.
    """
    if "://" not in file_or_url:
        yield Path(file_or_url)
        return
    try:
        from envhub.store.payloads.remote import file_for
    except ImportError as error:
        raise UsageError(f"'{file_or_url}' needs '{error.name}'; `pip install envhub-rl[objects]`") from error
    with file_for(file_or_url) as file:
        yield file


def row_json(row: Row) -> dict[str, object]:
    """A row by column, all of one length."""
    return {
        "ids": row.ids.tolist(),
        "logprobs": [float(str(value)) for value in row.logprobs],  # the shortest text that is this float32 again
        "sampled": row.mask(trainable=False).astype(int).tolist(),
        "trainable": row.mask(trainable=True).astype(int).tolist(),
    }


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    if str(file) == "-":
        yield sys.stdout
        return
    try:
        opened = file.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't write to '{file}': {error.strerror}") from error
    with opened:
        yield opened


async def _export_groups(store: TraceStore, run_id: RunId, file: Path) -> int:
    try:
        from envhub.feed.codec import decode_group
        from envhub.feed.encoding import encode_group
        from envhub.trainers.parquet import GroupFile
    except ImportError as error:
        raise UsageError(f"Parquet needs '{error.name}'; `pip install envhub-rl[client,parquet]`") from error
    if str(file) == "-":
        raise UsageError("Parquet can't go to stdout; name a file with --file")
    with GroupFile(file) as groups:
        async for group in closed_groups(store, run_id):
            groups.write(decode_group(encode_group(group)))
    return groups.count


def _lines(rollout: Scored, format: Format, chooser: Chooser) -> Iterator[Mapping[str, object]]:
    for row in trajectory(rollout.turns).rows:
        if format is Format.ROWS:
            yield {**_place(rollout.start), "reward": rollout.score.scalar, **row_json(row)}
            continue
        example: TokenExample | ChatExample = (
            TokenExample.of(row, rollout.origin)
            if format is Format.TOKENS
            else ChatExample.of(row, rollout.turns, rollout.origin)
        )
        if chooser.keeps(example):
            yield example.as_json()


async def _scored(store: TraceStore, run_id: RunId) -> AsyncIterator[Scored]:
    started: dict[RolloutId, RolloutStarted] = {}
    turns: dict[RolloutId, list[Turn]] = {}
    unjudged: dict[tuple[GroupId, int], tuple[RolloutStarted, list[Turn]]] = {}  # members, until their group is
    async for event in store.events(run_id):
        match event:
            case RolloutStarted():
                started[event.rollout_id] = event
            case TurnRecorded():
                turns.setdefault(event.rollout_id, []).append(event.turn)
            case RolloutEnded():
                start, own = started.pop(event.rollout_id), turns.pop(event.rollout_id, [])
                if event.judgement is not None and event.judgement.scores:
                    for member, score in zip(event.judgement.members, event.judgement.scores, strict=True):
                        yield Scored(*unjudged.pop((start.group_id, member)), score)
                elif event.score is not None and start.group_judged:
                    unjudged[start.group_id, start.member] = start, own
                elif event.score is not None:
                    yield Scored(start, own, event.score)
            case _:
                pass


def _place(start: RolloutStarted) -> dict[str, object]:
    return {
        "rollout_id": start.rollout_id,
        "group_id": start.group_id,
        "member": start.member,
        "parent": start.parent,
        "environment": start.request.environment.id,
        "task_id": start.request.task.id,
    }
