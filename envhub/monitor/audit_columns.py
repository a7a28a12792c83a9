"""What the columns of a run's rollouts say: failures, groups without a difference, length bias, staleness, trends."""

from collections.abc import Iterator, Sequence

import numpy as np

from envhub.contracts.ids import RunId
from envhub.contracts.outcome import Status
from envhub.monitor.audit_findings import (
    LEAST,
    AuditFinding,
    Bounds,
    Severity,
    list_page,
    mean,
    overview_page,
)
from envhub.monitor.figures import Rows, VersionPoint, staleness, version_points
from envhub.monitor.rollout_table import STATUSES, RolloutTable


def column_findings(table: RolloutTable, rows: Rows, run_id: RunId, bounds: Bounds) -> Iterator[AuditFinding]:
    """What needs no record to be read."""
    status = table["status"][rows]
    for name, most in (("failed", bounds.failed), ("truncated", bounds.truncated)):
        share = float((status == STATUSES.index(name)).mean()) if len(rows) >= LEAST else 0.0
        if share > most:
            page = list_page(run_id, status=name)
            yield AuditFinding(name, Severity.WARNING, f"{share:.0%} of the rollouts are {name}", page, share)
    yield from _even_groups(table, rows, run_id, bounds)
    yield from _length_bias(table, rows, run_id, bounds)
    yield from _stale(table, rows, run_id, bounds)
    yield from _trends(version_points(table, rows), run_id)


def _even_groups(table: RolloutTable, rows: Rows, run_id: RunId, bounds: Bounds) -> Iterator[AuditFinding]:
    scored = rows[np.isfinite(table["reward"][rows]) & table["is_root"][rows]]
    groups, of, sizes = np.unique(table["group_id"][scored], return_inverse=True, return_counts=True)
    rewards = table["reward"][scored]
    lowest, highest = np.full(len(groups), np.inf), np.full(len(groups), -np.inf)
    np.minimum.at(lowest, of, rewards)
    np.maximum.at(highest, of, rewards)
    several = sizes > 1
    if several.sum() >= LEAST:
        share = float((lowest == highest)[several].mean())
        if share > bounds.even_groups:
            message = f"{share:.0%} of the groups have the same reward throughout: they have no advantage to learn from"
            yield AuditFinding("even groups", Severity.WARNING, message, list_page(run_id, page="groups"), share)


def _length_bias(table: RolloutTable, rows: Rows, run_id: RunId, bounds: Bounds) -> Iterator[AuditFinding]:
    """Of groups that kept some members and cut others off: whether the short ones made it."""
    rows = rows[table["is_root"][rows]]
    status, groups = table["status"][rows], table["group_id"][rows]
    cut, kept = status == STATUSES.index(Status.CANCELLED), np.isfinite(table["reward"][rows])
    both = np.intersect1d(groups[cut], groups[kept])
    inside = np.isin(groups, both)
    tokens = table["sampled_tokens"][rows]
    if len(both) < LEAST:
        return
    short, long = float(tokens[inside & kept].mean()), float(tokens[inside & cut].mean())
    if long and short / long < bounds.length_bias:
        message = f"kept members sampled {short:.0f} tokens on average, and those cut off for them {long:.0f} or more"
        page = list_page(run_id, status=Status.CANCELLED)
        yield AuditFinding("length bias", Severity.WARNING, message, page, short / long)


def _stale(table: RolloutTable, rows: Rows, run_id: RunId, bounds: Bounds) -> Iterator[AuditFinding]:
    ages = staleness(table, rows)
    total = sum(ages.values())
    old = sum(count for age, count in ages.items() if age > bounds.versions_behind)
    if total >= LEAST and old / total > 0.05:
        message = (
            f"{old / total:.0%} of the rollouts ended more than {bounds.versions_behind} versions behind the newest"
        )
        yield AuditFinding("staleness", Severity.WARNING, message, overview_page(run_id), old / total)


def _trends(points: Sequence[VersionPoint], run_id: RunId) -> Iterator[AuditFinding]:
    """Reward that rises while answers grow or shrink as much."""
    known = [point for point in points if point.mean_reward is not None and point.rollouts >= LEAST]
    third = len(known) // 3
    if not third:
        return
    first, last = known[:third], known[-third:]
    rise = mean([p.mean_reward or 0.0 for p in last]) - mean([p.mean_reward or 0.0 for p in first])
    before, after = mean([p.mean_tokens for p in first]), mean([p.mean_tokens for p in last])
    change = after / before if before else 1.0
    if rise > 0.05 and not 2 / 3 < change < 1.5:
        message = f"reward rose by {rise:.2f} while answers went from {before:.0f} to {after:.0f} tokens"
        yield AuditFinding("reward and length", Severity.WARNING, message, overview_page(run_id), change)
