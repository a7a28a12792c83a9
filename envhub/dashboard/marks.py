"""Marks: where in a long row there is something to jump to, and what all of it looks like from afar."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envhub.contracts.trajectory import Row
from envhub.dashboard.records import shortest

MOST = 1_000  # of one kind
BUCKETS = 512


@dataclass(frozen=True, slots=True)
class LowToken:
    """A sampled token that was improbable."""

    at: int
    id: int
    logprob: float


@dataclass(frozen=True, slots=True)
class ForkMark:
    """Another row leaves this one here."""

    at: int
    row: int


@dataclass(frozen=True, slots=True)
class VersionMark:
    """From here on another policy version sampled."""

    at: int
    version: int


@dataclass(frozen=True, slots=True)
class TurnMark:
    """A turn's answer begins here."""

    at: int
    turn: int


@dataclass(frozen=True, slots=True)
class RowOverview:
    """The row in equal parts."""

    bucket: int  # tokens of a part
    mean_logprob: list[float | None]  # of what was sampled; None: nothing
    sampled: list[float]  # share of tokens


@dataclass(frozen=True, slots=True)
class RowMarks:
    low: list[LowToken]  # the lowest first
    low_total: int  # below the bound; `low` has the lowest of them
    forks: list[ForkMark]
    versions: list[VersionMark]
    turns: list[TurnMark]
    overview: RowOverview


def marks(rows: Sequence[Row], number: int, below: float) -> RowMarks:
    """Of one of a trajectory's rows; tokens are low where their logprob is below that many nats."""
    row = rows[number]
    sampled = row.mask(trainable=False)
    low = np.flatnonzero(sampled & (row.logprobs < below))
    lowest = low[np.argsort(row.logprobs[low], kind="stable")[:MOST]]
    forks = [ForkMark(other.fork_at, n) for n, other in enumerate(rows) if other.parent == number]
    return RowMarks(
        low=[LowToken(int(at), int(row.ids[at]), shortest(row.logprobs[at])) for at in lowest],
        low_total=len(low),
        forks=forks if row.parent is None else [ForkMark(row.fork_at, row.parent), *forks],
        versions=_versions(row),
        turns=_turns(row),
        overview=_overview(row, sampled),
    )


def _versions(row: Row) -> list[VersionMark]:
    found: list[VersionMark] = []
    for span in row.spans:
        if span.sampled and (not found or found[-1].version != span.policy_version):
            found.append(VersionMark(span.start, span.policy_version))
    return found


def _turns(row: Row) -> list[TurnMark]:
    found: list[TurnMark] = []
    for span in row.spans:
        if span.sampled and (not found or found[-1].turn != span.turn):
            found.append(TurnMark(span.start, span.turn))
    return found


def _overview(row: Row, sampled: np.ndarray) -> RowOverview:
    bucket = max(1, -(-len(row.ids) // BUCKETS))
    starts = np.arange(0, len(row.ids), bucket)
    if not len(starts):
        return RowOverview(bucket, [], [])
    counts = np.add.reduceat(sampled.astype(np.int64), starts)
    sums = np.add.reduceat(np.where(sampled, row.logprobs, 0.0), starts)
    sizes = np.diff(np.append(starts, len(row.ids)))
    means = [round(float(s / n), 4) if n else None for s, n in zip(sums, counts, strict=True)]
    return RowOverview(bucket, means, np.round(counts / sizes, 4).tolist())
