"""Recompute: whether recorded log probabilities are those that the weights give, with the trainers' own metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.events import TurnRecorded
from envhub.contracts.ids import PolicyId, RolloutId, RunId
from envhub.contracts.store import BrowsableStore
from envhub.contracts.token_file import SamplingMask
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import Ids
from envhub.errors import UsageError
from envhub.monitor.rollout_pages import Selection
from envhub.monitor.rollout_table import RolloutTable
from envhub.tokens.rows import rows_of
from envhub.trainers.batch import TokenBatch, of_spans
from envhub.trainers.mismatch import Mismatch, mismatch

# ids, temperatures, what they were drawn from where that is not all there are -> logprobs
Score: TypeAlias = Callable[[Ids, NDArray[np.float64], SamplingMask | None], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Recomputed:
    """A sample's recorded log probabilities against those that were computed again."""

    rollouts: int
    tokens: int  # sampled
    mean_error: float  # nats, absolute
    max_error: float
    worst: RolloutId  # that has the largest error
    metrics: Mismatch


async def recompute(
    store: BrowsableStore, run_id: RunId, score: Score, *, version: int, sample: int, longest: int
) -> Recomputed:
    """Of a run's newest rollouts that only that policy version sampled, `sample` at most, none longer than `longest`
    tokens.

    Raises:
        UsageError: there is none.
    """
    table = RolloutTable(store)
    await table.refresh()
    rows = Selection(run=run_id, version_min=version, version_max=version).rows(table)
    only = (table["version_min"][rows] == version) & (table["version_max"][rows] == version)
    sizes = table["prompt_tokens"][rows] + table["sampled_tokens"][rows]
    chosen = rows[only & (sizes <= longest)][-sample:]
    if not len(chosen):
        raise UsageError(
            f"run '{run_id}' has no rollout of up to {longest} tokens that version {version} alone sampled; "
            "name another --version"
        )
    found: list[tuple[RolloutId, Row]] = []
    for one in await store.rollouts_at(table["place"][chosen].tolist()):
        events = await store.events_of(run_id, [one.rollout_id], {TurnRecorded}, files=True)
        turns = [event.turn for event in events if isinstance(event, TurnRecorded)]
        found += [(one.rollout_id, row) for row in rows_of(turns) if _of_one_policy(row, one.policy_id)]
    return _compared(found, score)


def _of_one_policy(row: Row, policy_id: PolicyId) -> bool:
    return all(span.policy_id == policy_id for span in row.spans if span.sampled)


def _compared(found: Sequence[tuple[RolloutId, Row]], score: Score) -> Recomputed:
    rows = [row for _, row in found]
    again = [score(row.ids, of_spans(row, "temperature").astype(np.float64), row.sampling_mask()) for row in rows]
    errors = [_errors(row, new) for row, new in zip(rows, again, strict=True)]
    every = np.concatenate(errors)
    worst = max(range(len(found)), key=lambda at: errors[at].max(initial=0.0))
    return Recomputed(
        rollouts=len({rollout_id for rollout_id, _ in found}),
        tokens=len(every),
        mean_error=float(every.mean()),
        max_error=float(every.max()),
        worst=found[worst][0],
        metrics=mismatch(_batch(rows), np.concatenate(again)),
    )


def _errors(row: Row, again: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of its sampled tokens, nats."""
    sampled = row.mask(trainable=False)
    errors: NDArray[np.float64] = np.abs(row.logprobs[sampled] - again[sampled])
    return errors


def _batch(rows: Sequence[Row]) -> TokenBatch:
    """Every sampled token, whether it trains or not; without advantages."""
    count = np.arange(len(rows))
    return TokenBatch(
        ids=np.concatenate([row.ids for row in rows]).astype(np.int64),
        logprobs=np.concatenate([row.logprobs for row in rows]).astype(np.float64),
        trainable=np.concatenate([row.mask(trainable=False) for row in rows]),
        temperatures=np.concatenate([of_spans(row, "temperature") for row in rows]).astype(np.float64),
        versions=np.concatenate([of_spans(row, "policy_version") for row in rows]).astype(np.int64),
        offsets=np.cumsum([0, *(len(row.ids) for row in rows)], dtype=np.int64),
        prompt_lengths=np.array([int(row.mask(trainable=False).argmax()) for row in rows], np.int64),
        advantages=np.zeros(len(rows)),
        members=count,
        groups=count,
    )
