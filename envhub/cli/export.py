"""Rows of a run as JSON lines, for a program that trains or counts."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path

from envhub.contracts.events import RolloutEnded, RolloutStarted, TurnRecorded
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import TraceStore
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import Turn
from envhub.errors import UsageError
from envhub.tokens.rows import trajectory


async def export(store: TraceStore, run_id: RunId, file: Path) -> int:
    """Writes the rows of all scored rollouts of a run and returns how many; the file `-` is stdout.

    Raises:
        UsageError: the file can't be written.
    """
    count = 0
    try:
        opened = nullcontext(sys.stdout) if str(file) == "-" else file.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"can't write to '{file}': {error.strerror}") from error
    with opened as target:
        async for row in _rows(store, run_id):
            target.write(json.dumps(row) + "\n")
            count += 1
    return count


def row_json(row: Row) -> dict[str, object]:
    """A row by column, all of one length."""
    return {
        "ids": row.ids.tolist(),
        "logprobs": [float(str(value)) for value in row.logprobs],  # the shortest text that is this float32 again
        "sampled": row.mask(trainable=False).astype(int).tolist(),
        "trainable": row.mask(trainable=True).astype(int).tolist(),
    }


async def _rows(store: TraceStore, run_id: RunId) -> AsyncIterator[dict[str, object]]:
    started: dict[RolloutId, RolloutStarted] = {}
    turns: dict[RolloutId, list[Turn]] = {}
    async for event in store.events(run_id):
        match event:
            case RolloutStarted():
                started[event.rollout_id] = event
            case TurnRecorded():
                turns.setdefault(event.rollout_id, []).append(event.turn)
            case RolloutEnded():
                start, own = started.pop(event.rollout_id), turns.pop(event.rollout_id, [])
                if event.score is not None:
                    for row in trajectory(own).rows:
                        yield {**_origin(start), "reward": event.score.scalar, **row_json(row)}
            case _:
                pass


def _origin(start: RolloutStarted) -> dict[str, object]:
    return {
        "rollout_id": start.rollout_id,
        "group_id": start.group_id,
        "member": start.member,
        "parent": start.parent,
        "environment": start.request.environment.id,
        "task_id": start.request.task.id,
    }
