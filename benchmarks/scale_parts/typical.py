"""The turn that docs/scaling.md reckons with: 800 new prompt tokens and 200 sampled ones, four letters each."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import numpy as np

from benchmarks.scale_parts.runs import NULL, Where, opened
from envhub.contracts.events import Event, StepRecorded, TurnRecorded
from envhub.store.sql_store import open_store

NEW, SAMPLED, LETTERS, VOCABULARY = 800, 200, 4, 150_000
TURNS = 50
BATCH = 500  # events
_WORDS = "".join(f"w{number:02} " for number in range(97)) * NEW
_RANDOM = np.random.default_rng(0)


def typical(event: Event) -> Event:
    """The event, had its turn that many tokens."""
    match event:
        case TurnRecorded(turn=turn):
            return replace(
                event,
                turn=replace(
                    turn,
                    messages=(replace(turn.messages[0], content=_text(NEW)),),
                    response=replace(turn.response, content=_text(SAMPLED)),
                    delta_ids=_ids(NEW),
                    output_ids=_ids(SAMPLED),
                    logprobs=-_RANDOM.random(SAMPLED, np.float32),
                ),
            )
        case StepRecorded(step=step):
            shown = (replace(step.observation[0], content=_text(NEW)),)
            action = replace(step.action, content=_text(SAMPLED))
            return replace(event, step=replace(step, action=action, observation=shown))
        case _:
            return event


def store_us(rollouts: int) -> float:
    """CPU of the writer of an SQLite file for such a turn and its step, microseconds."""
    return anyio.run(_store_us, rollouts)


async def _store_us(rollouts: int) -> float:
    events = [typical(event) for event in await _log(rollouts)]
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(str(Path(folder, "typical.db")))
        began = time.process_time()
        for at in range(0, len(events), BATCH):
            await store.append(events[at : at + BATCH])
        spent_s = time.process_time() - began
        await store.close()
    return spent_s / sum(isinstance(event, TurnRecorded) for event in events) * 1e6


async def _log(rollouts: int) -> Sequence[Event]:
    async with opened(Where(), 0.0, 16) as run:
        await run.play(rollouts, TURNS)
        await run.recorder.flush()
        return [event async for event in run.store.events(NULL)]


def _text(tokens: int) -> str:
    return _WORDS[: tokens * LETTERS]


def _ids(count: int) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return _RANDOM.integers(0, VOCABULARY, count, np.int32)
