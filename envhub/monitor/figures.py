"""Figures of many rollouts: counts, curves over policy versions, heat maps of tasks.

A rollout stands at the newest version that sampled any of it; one that sampled nothing is on no curve. It passes where
its reward is at least `pass_at`; without a valid score it neither passes nor fails.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envhub.monitor.rollout_table import BOUNDARIES, STATUSES, Column, RolloutTable

Rows = NDArray[np.int64]
BINS = 24
HEAT_TASKS = 200  # rows of a heat map: those with the most rollouts
MAX_SPREAD = 1 << 20  # between the least and the greatest of values that are counted in an array over all between
MAX_VERSIONS = 200  # points of a curve, or columns of a heat map: above it, versions are taken together


@dataclass(frozen=True, slots=True)
class Histogram:
    edges: tuple[float, ...]  # one more than counts
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facets:
    """How many rollouts of each kind."""

    status: dict[str, int]
    boundary: dict[str, int]
    environment: dict[str, int]
    policy: dict[str, int]
    version: dict[str, int]
    reward: Histogram
    sampled_tokens: Histogram


@dataclass(frozen=True, slots=True)
class VersionPoint:
    """The rollouts of one policy version, or of a few that lie beside each other. None: no rollout has one."""

    version: int  # the newest of them
    rollouts: int
    pass_rate: float | None
    mean_reward: float | None
    reward_std: float | None
    mean_tokens: float
    mean_turns: float
    truncated: int
    failed: int


@dataclass(frozen=True, slots=True)
class Heat:
    """The pass rate of each task under each version."""

    tasks: tuple[str, ...]
    versions: tuple[int, ...]
    pass_rate: tuple[tuple[float | None, ...], ...]  # a row a task; None: no scored rollout
    total_tasks: int


@dataclass(frozen=True, slots=True)
class EnvironmentFigures:
    """The rollouts of one environment."""

    environment: str
    rollouts: int
    groups: int
    mean_reward: float | None
    pass_rate: float | None
    failed: int
    truncated: int
    mean_tokens: float
    mean_turns: float
    mean_duration_s: float | None


def facets(table: RolloutTable, rows: Rows) -> Facets:
    return Facets(
        status=_counts(table["status"][rows], STATUSES),
        boundary={name: n for name, n in _counts(table["failure"][rows], BOUNDARIES).items() if name},
        environment=_counts(table["environment"][rows], table.names["environment"].texts),
        policy=_counts(table["policy_id"][rows], table.names["policy_id"].texts),
        version=_versions(table["version_max"][rows]),
        reward=histogram(table["reward"][rows]),
        sampled_tokens=histogram(table["sampled_tokens"][rows]),
    )


def histogram(values: Column, bins: int = BINS) -> Histogram:
    """Of the values that there are; empty where there are none."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Histogram((), ())
    counts, edges = np.histogram(values, bins)
    return Histogram(tuple(edges.tolist()), tuple(counts.tolist()))


def version_points(table: RolloutTable, rows: Rows, pass_at: float = 1.0) -> tuple[VersionPoint, ...]:
    """One for each version that sampled anything, oldest first; where there are many, for a few that lie together."""
    rows = rows[table["version_max"][rows] >= 0]
    groups, newest = _grouped(table["version_max"][rows])
    status, reward = table["status"][rows], table["reward"][rows]
    scored = np.isfinite(reward)
    counts = np.bincount(groups, minlength=len(newest))
    scores = np.bincount(groups, scored, len(newest))
    sums = np.bincount(groups, np.where(scored, reward, 0.0), len(newest))
    squares = np.bincount(groups, np.where(scored, reward**2, 0.0), len(newest))
    passed = np.bincount(groups, scored & (reward >= pass_at), len(newest))
    tokens = np.bincount(groups, table["sampled_tokens"][rows], len(newest)) / counts
    turns = np.bincount(groups, table["turns"][rows], len(newest)) / counts
    truncated = np.bincount(groups, status == STATUSES.index("truncated"), len(newest))
    failed = np.bincount(groups, status == STATUSES.index("failed"), len(newest))
    points = []
    for at, version in enumerate(newest.tolist()):
        n = scores[at]
        mean = sums[at] / n if n else None
        points.append(
            VersionPoint(
                version=version,
                rollouts=int(counts[at]),
                pass_rate=float(passed[at] / n) if n else None,
                mean_reward=None if mean is None else float(mean),
                reward_std=None if mean is None else float(np.sqrt(max(squares[at] / n - mean**2, 0.0))),
                mean_tokens=float(tokens[at]),
                mean_turns=float(turns[at]),
                truncated=int(truncated[at]),
                failed=int(failed[at]),
            )
        )
    return tuple(points)


def heat(table: RolloutTable, rows: Rows, pass_at: float = 1.0) -> Heat:
    """Of the tasks with the most rollouts."""
    reward = table["reward"][rows]
    rows = rows[np.isfinite(reward) & (table["version_max"][rows] >= 0)]
    tasks, of_task, sizes = np.unique(table["task_id"][rows], return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-sizes, kind="stable")[:HEAT_TASKS])
    place = np.full(len(tasks), -1)
    place[kept] = np.arange(len(kept))
    versions, newest = _grouped(table["version_max"][rows])
    shown = place[of_task] >= 0
    cells = place[of_task][shown] * len(newest) + versions[shown]
    size = len(kept) * len(newest)
    counts = np.bincount(cells, minlength=size)
    passed = np.bincount(cells, table["reward"][rows][shown] >= pass_at, size)
    rates = [float(p / n) if n else None for p, n in zip(passed, counts, strict=True)]
    width, texts = len(newest), table.names["task_id"].texts
    return Heat(
        tasks=tuple(texts[tasks[task]] for task in kept),
        versions=tuple(newest.tolist()),
        pass_rate=tuple(tuple(rates[row * width : (row + 1) * width]) for row in range(len(kept))),
        total_tasks=len(tasks),
    )


def reward_histogram(table: RolloutTable, rows: Rows) -> Histogram:
    return histogram(table["reward"][rows])


def truncations(table: RolloutTable, rows: Rows) -> dict[str, int]:
    """How many met which limit."""
    rows = rows[table["status"][rows] == STATUSES.index("truncated")]
    return _counts(table["truncated_by"][rows], table.names["truncated_by"].texts)


def environment_figures(table: RolloutTable, rows: Rows, pass_at: float = 1.0) -> list[EnvironmentFigures]:
    """One for each environment, by name."""
    column = table["environment"][rows]
    texts = table.names["environment"].texts
    found = [_environment(table, texts[code], rows[column == code], pass_at) for code in np.unique(column).tolist()]
    return sorted(found, key=lambda figures: figures.environment)


def staleness(table: RolloutTable, rows: Rows) -> dict[int, int]:
    """How many of the rollouts that ended were how many versions behind, by age: their oldest token against the newest
    version that any rollout had sampled with by then."""
    rows = rows[np.isfinite(table["ended_at"][rows]) & (table["version_min"][rows] >= 0)]
    rows = rows[np.argsort(table["ended_at"][rows])]
    newest = np.maximum.accumulate(table["version_max"][rows]) if len(rows) else rows
    ages, counts = np.unique(newest - table["version_min"][rows], return_counts=True)
    return dict(zip(ages.tolist(), counts.tolist(), strict=True))


def mean(values: Column) -> float | None:
    """Of the finite ones; None where there are none."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _environment(table: RolloutTable, name: str, rows: Rows, pass_at: float) -> EnvironmentFigures:
    reward, status = table["reward"][rows], table["status"][rows]
    scored = reward[np.isfinite(reward)]
    return EnvironmentFigures(
        environment=name,
        rollouts=len(rows),
        groups=len(np.unique(table["group_id"][rows])),
        mean_reward=mean(reward),
        pass_rate=float((scored >= pass_at).mean()) if len(scored) else None,
        failed=int((status == STATUSES.index("failed")).sum()),
        truncated=int((status == STATUSES.index("truncated")).sum()),
        mean_tokens=float(table["sampled_tokens"][rows].mean()),
        mean_turns=float(table["turns"][rows].mean()),
        mean_duration_s=mean(table["ended_at"][rows] - table["started_at"][rows]),
    )


def _counts(codes: Column, names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return {str(name): count for name, count in zip(names, counts, strict=False) if count}


def _versions(column: Column) -> dict[str, int]:
    groups, newest = _grouped(column[column >= 0])
    return {
        str(version): count
        for version, count in zip(newest.tolist(), np.bincount(groups, minlength=len(newest)).tolist(), strict=True)
    }


def _grouped(versions: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The group of each version, and the newest version of each group: MAX_VERSIONS at most."""
    known, groups = _distinct(versions)
    each = -(-len(known) // MAX_VERSIONS) or 1
    starts = np.arange(0, len(known), each)
    newest = known[np.minimum(starts + each - 1, max(len(known) - 1, 0))] if len(known) else known
    return groups // each, newest


def _distinct(values: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different values, ascending, and which of them each value is: as numpy's unique, but without sorting."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if high - low > MAX_SPREAD:
        known, each = np.unique(values, return_inverse=True)
        return known, each
    offsets = values - low
    present = np.zeros(high - low + 1, np.bool_)
    present[offsets] = True
    return np.flatnonzero(present) + low, (np.cumsum(present) - 1)[offsets]
