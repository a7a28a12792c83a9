"""Runs, and the list of rollouts."""

from functools import partial
from typing import Annotated, cast

import numpy as np
from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query

from envhub.contracts.events import RunStarted
from envhub.contracts.ids import RunId
from envhub.contracts.messages import JsonObject
from envhub.dashboard.conditions import Conditions, ListQuery
from envhub.dashboard.records import RolloutList, RunDetail, RunRecord, SessionRecord
from envhub.dashboard.security import AnyCaller
from envhub.dashboard.shared import Shared
from envhub.monitor.audit import AuditReport, audit
from envhub.monitor.figures import Facets, facets
from envhub.monitor.rollout_pages import Selection, page
from envhub.monitor.rollout_table import RolloutTable

router = APIRouter()


@router.get("/session")
async def session(shared: Shared, caller: AnyCaller) -> SessionRecord:
    """Who asks, and what can be done here."""
    assert caller.role is not None  # nobody gets no answer
    return SessionRecord(caller.role, shared.live.run_id if shared.live else None, shared.decoders.any)


@router.get("/runs")
async def runs(shared: Shared) -> list[RunRecord]:
    """All runs, newest first."""
    return [RunRecord.of(run) for run in await shared.store.runs()]


@router.get("/runs/{run_id}")
async def run(shared: Shared, run_id: RunId) -> RunDetail:
    """One run."""
    found = next((one for one in await shared.store.runs() if one.run_id == run_id), None)
    if found is None:
        raise HTTPException(404, f"no run '{run_id}' in this store; /api/runs lists them")
    first = await anext(aiter(shared.store.events(run_id)), None)
    settings = first.settings if isinstance(first, RunStarted) else {}
    return await shared.fresh.of(("run", run_id), partial(_detail, run=RunRecord.of(found), settings=settings))


@router.get("/runs/{run_id}/findings")
async def findings(shared: Shared, run_id: RunId) -> AuditReport:
    """What `envhub audit` says of the run, at most half a minute old."""
    if all(one.run_id != run_id for one in await shared.runs()):
        raise HTTPException(404, f"no run '{run_id}' in this store; /api/runs lists them")

    async def look() -> AuditReport:
        return await audit(shared.store, run_id, table=await shared.fresh.table())

    return cast(AuditReport, await shared.audits.look(run_id, look))


@router.get("/environments")
async def environments(shared: Shared, run: str = "") -> list[str]:
    """The environments of the rollouts of the run, or of all runs."""
    return await shared.fresh.of(("environments", run), partial(_names, column="environment", run=run))


@router.get("/policies")
async def policies(shared: Shared, run: str = "") -> list[str]:
    """The policies that rollouts of the run, or of all runs, were asked to act with."""
    return await shared.fresh.of(("policies", run), partial(_names, column="policy_id", run=run))


@router.get("/rollouts")
async def rollouts(shared: Shared, query: Annotated[ListQuery, Query()]) -> RolloutList:
    """One page of the rollouts that the conditions let through."""
    selection, search = await query.selection(shared.store)
    table = await shared.fresh.table()
    select = partial(
        page,
        table,
        selection,
        sort=query.sort,
        descending=query.descending,
        limit=query.limit,
        cursor=query.cursor,
    )
    found = await run_sync(select, limiter=shared.threads)
    shown = await shared.store.rollouts_at(table["place"][found.rows].tolist())
    return RolloutList(list(shown), found.next_cursor, found.total, search)


@router.get("/rollouts/facets")
async def rollout_facets(shared: Shared, conditions: Annotated[Conditions, Query()]) -> Facets:
    """How many of them there are of each kind."""
    return await shared.figures(conditions, facets)


def _detail(table: RolloutTable, run: RunRecord, settings: JsonObject) -> RunDetail:
    rows = Selection(run=run.run_id).rows(table)
    newest = np.unique(table["version_max"][rows])
    times = np.concatenate((table["started_at"][rows], table["ended_at"][rows]))
    times = times[np.isfinite(times)]
    return RunDetail(
        run=run,
        settings=settings,
        environments=_names(table, "environment", run.run_id),
        policies=_names(table, "policy_id", run.run_id),
        versions=newest[newest >= 0].tolist(),
        rollouts=len(rows),
        groups=len(np.unique(table["group_id"][rows])),
        last_event_at=float(times.max()) if len(times) else None,
    )


def _names(table: RolloutTable, column: str, run: str) -> list[str]:
    rows = Selection(run=run).rows(table)
    texts = table.names[column].texts
    return sorted(texts[code] for code in np.unique(table[column][rows]).tolist())
