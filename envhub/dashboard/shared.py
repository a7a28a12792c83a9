"""What the routes share: the store, what is kept of it in memory, and who asks."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, HTTPException, Request

from envhub.contracts.guard import Guard
from envhub.contracts.ids import RolloutId
from envhub.contracts.store import BrowsableStore, RolloutSummary, RunSummary
from envhub.contracts.trajectory import Trajectory
from envhub.dashboard.conditions import Conditions
from envhub.dashboard.decoder import Decoders
from envhub.dashboard.freshness import LOOK_S, Fresh
from envhub.dashboard.live import SharedLooks
from envhub.dashboard.live_run import LiveRun
from envhub.dashboard.recorded import Recorded
from envhub.monitor.rollout_table import RolloutTable
from envhub.tokens.rows import trajectory

T = TypeVar("T")

AUDIT_S = 30.0  # for which an audit is new enough: it reads some thousand rollouts
KEPT = 8  # rollouts that were looked at last: pages ask for windows of one again and again


@dataclass(slots=True)
class Dashboard:
    """What all routes draw on."""

    store: BrowsableStore
    decoders: Decoders
    guard: Guard
    live: LiveRun | None
    threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(2))
    table: RolloutTable = field(init=False)
    fresh: Fresh = field(init=False)
    looks: SharedLooks = field(default_factory=lambda: SharedLooks(LOOK_S))
    audits: SharedLooks = field(default_factory=lambda: SharedLooks(AUDIT_S))
    _looked_at: OrderedDict[tuple[RolloutId, int], tuple[Recorded, Trajectory]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.table = RolloutTable(self.store)
        self.fresh = Fresh(self.table, self.threads)

    async def runs(self) -> Sequence[RunSummary]:
        """All runs, newest first, as they were a moment ago: their members take long to count."""
        return await self.fresh.seen("runs", self.store.runs)

    async def recorded(self, summary: RolloutSummary) -> tuple[Recorded, Trajectory]:
        """What the store holds of a rollout, and its rows. Those that ended are kept for a while."""
        key = summary.rollout_id, summary.turns
        if key in self._looked_at:
            self._looked_at.move_to_end(key)
            return self._looked_at[key]
        recorded = await Recorded.read(self.store, summary.run_id, summary.rollout_id)
        # Building rows is CPU work: off the loop.
        found = recorded, await run_sync(trajectory, recorded.turns, limiter=self.threads)
        if summary.status is not None:
            self._looked_at[key] = found
            while len(self._looked_at) > KEPT:
                self._looked_at.popitem(last=False)
        return found

    async def figures(self, conditions: Conditions, count: Callable[..., T], **options: Hashable) -> T:
        """What `count` makes of the table and the rows that the conditions let through."""
        selection, search = await conditions.selection(self.store)

        def counted(table: RolloutTable) -> T:
            return count(table, selection.rows(table), **options)

        key = (count.__name__, conditions.key, search and search.indexed, *options.items())
        return await self.fresh.of(key, counted)


def _dashboard(request: Request) -> Dashboard:
    dashboard: Dashboard = request.app.state.dashboard
    return dashboard


Shared = Annotated[Dashboard, Depends(_dashboard)]


async def _known_rollout(rollout_id: RolloutId, shared: Shared) -> RolloutSummary:
    summary = await shared.store.rollout(rollout_id)
    if summary is None:
        raise HTTPException(404, f"no rollout '{rollout_id}' in this store; /api/rollouts lists them")
    return summary


Known = Annotated[RolloutSummary, Depends(_known_rollout)]
