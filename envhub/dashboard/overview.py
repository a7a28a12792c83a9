"""Overview: how a run, or everything, goes right now."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.members import MemberState
from envhub.contracts.store import RolloutSummary, RunSummary
from envhub.dashboard.conditions import Conditions
from envhub.dashboard.live_run import LiveRun
from envhub.dashboard.shared import Dashboard
from envhub.monitor.activity import Waiting
from envhub.monitor.figures import Rows, VersionPoint, staleness, version_points
from envhub.monitor.rollout_table import BOUNDARIES, STATUSES, RolloutTable
from envhub.monitor.vitals import Vitals

SHOWN = 20  # slow rollouts
STUCK_FACTOR = 5.0  # times as long as the slowest hundredth of its environment took, and a rollout is stuck,
STUCK_S = 60.0  # where it has taken at least so long
TYPICAL = 0.99


@dataclass(frozen=True, slots=True)
class SlowRollout:
    """A rollout that runs, and for how long."""

    rollout: RolloutSummary
    waiting: Waiting | None  # for what; None: it runs in another process
    seconds: float
    typical_s: float | None  # what 99 % of its environment's need at most; None: none has ended
    stuck: bool


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One second."""

    at: int  # seconds since the epoch
    rollouts: int  # that ended
    tokens: int  # sampled


@dataclass(frozen=True, slots=True)
class Overview:
    """How it goes."""

    at: float
    run_id: RunId | None  # None: all runs
    submitted: int
    members: dict[MemberState, int]
    running: int  # rollouts, children included
    waiting: dict[str, int]  # for what, of the run that this process plays; empty for others
    rollouts_per_s: float
    tokens_per_s: float
    rate: list[RatePoint]
    versions: list[VersionPoint]
    outcomes: dict[str, int]
    boundaries: dict[str, int]
    staleness: dict[int, int]  # rollouts by how many versions they were behind when they ended
    slow: list[SlowRollout]  # of those that run, the longest first
    live: Vitals | None  # None: not this process's run


@dataclass(frozen=True, slots=True)
class _Counts:
    """What is counted over all rollouts at once."""

    running: int
    outcomes: Mapping[str, int]
    boundaries: Mapping[str, int]
    places: Sequence[int]  # of those that run for longest
    typical: Mapping[int, float]  # seconds, by the code of the environment
    environments: Sequence[int]  # codes, of these places


async def overview(shared: Dashboard, run: str, window_s: int) -> Overview:
    conditions = Conditions(run=run)
    counts = await shared.figures(conditions, _counts)
    live = shared.live if shared.live and run in ("", shared.live.run_id) else None
    rate = await _rate(shared, conditions, live, window_s)
    runs = [one for one in await shared.runs() if run in ("", one.run_id)]
    seconds = max(1, min(window_s, int(time.time()) - rate[0].at + 1)) if rate else 1
    return Overview(
        at=time.time(),
        run_id=RunId(run) if run else None,
        submitted=sum(one.members.submitted for one in runs),
        members=_members(runs),
        running=counts.running,
        waiting=dict(live.activity.waiting()) if live else {},
        rollouts_per_s=sum(point.rollouts for point in rate) / seconds,
        tokens_per_s=sum(point.tokens for point in rate) / seconds,
        rate=rate,
        versions=list(await shared.figures(conditions, version_points)),
        outcomes=dict(counts.outcomes),
        boundaries=dict(counts.boundaries),
        staleness=await shared.figures(conditions, staleness),
        slow=await _slow(shared, counts, live),
        live=live.vitals() if live else None,
    )


def changed(before: Overview | None, after: Overview) -> bool:
    """Whether anything but the time is another."""
    return before is None or replace(before, at=0.0) != replace(after, at=0.0)


def _members(runs: Sequence[RunSummary]) -> dict[MemberState, int]:
    counts = {state: sum(one.members.of(state) for one in runs) for state in MemberState}
    return {state: count for state, count in counts.items() if count}


def _counts(table: RolloutTable, rows: Rows) -> _Counts:
    status = table["status"][rows]
    outcomes = np.bincount(status, minlength=len(STATUSES)).tolist()
    failures = np.bincount(table["failure"][rows], minlength=len(BOUNDARIES)).tolist()
    running = rows[status == 0]
    oldest = running[np.argsort(table["started_at"][running], kind="stable")[:SHOWN]]
    return _Counts(
        running=len(running),
        outcomes={str(name): n for name, n in zip(STATUSES, outcomes, strict=True) if n},
        boundaries={str(name): n for name, n in zip(BOUNDARIES, failures, strict=True) if n and name},
        places=table["place"][oldest].tolist(),
        typical=_typical(table, rows[status != 0]),
        environments=table["environment"][oldest].tolist(),
    )


def _typical(table: RolloutTable, ended: Rows) -> dict[int, float]:
    seconds, codes = table["ended_at"][ended] - table["started_at"][ended], table["environment"][ended]
    return {code: float(np.quantile(seconds[codes == code], TYPICAL)) for code in np.unique(codes).tolist()}


async def _rate(shared: Dashboard, conditions: Conditions, live: LiveRun | None, window_s: int) -> list[RatePoint]:
    if live is not None:
        return [RatePoint(second.at, second.rollouts, second.tokens) for second in live.activity.rates(window_s)]
    return await shared.figures(conditions, _ended_rate, window_s=window_s, now=int(time.time()))


def _ended_rate(table: RolloutTable, rows: Rows, window_s: int, now: int) -> list[RatePoint]:
    """Of another process's run: tokens count when their rollout ends."""
    rows = rows[table["ended_at"][rows] >= now - window_s]
    seconds, places = np.unique(table["ended_at"][rows].astype(np.int64), return_inverse=True)
    counts, tokens = np.bincount(places), np.bincount(places, table["sampled_tokens"][rows])
    return [
        RatePoint(*point) for point in zip(seconds.tolist(), counts.tolist(), tokens.astype(int).tolist(), strict=True)
    ]


async def _slow(shared: Dashboard, counts: _Counts, live: LiveRun | None) -> list[SlowRollout]:
    now, doing = time.time(), live.activity.doing if live else {}
    found = []
    shown = await shared.store.rollouts_at(counts.places)
    for one, environment in zip(shown, counts.environments, strict=True):
        if one.status is None:
            typical, seconds = counts.typical.get(environment), now - one.started_at
            stuck = seconds > max(STUCK_S, STUCK_FACTOR * (typical or 0.0))
            state = doing.get(RolloutId(one.rollout_id))
            found.append(SlowRollout(one, state.waits_for if state else None, seconds, typical, stuck))
    return found
