"""The JSON API: what the page asks for, each answer typed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, cast

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse

from envhub.contracts.ids import EnvironmentId, RolloutId, RunId
from envhub.contracts.store import RolloutPage, RolloutQuery, RolloutSummary, TraceStore
from envhub.contracts.trajectory import Trajectory
from envhub.dashboard.decoder import Decoders
from envhub.dashboard.live import changes, look_at_list, look_at_tree
from envhub.dashboard.recorded import Recorded
from envhub.dashboard.records import LogLine, RolloutFilters, RolloutRecord, RowRecord, RowTokens, RunRecord
from envhub.dashboard.security import demand_token
from envhub.tokens.rows import trajectory

POLL_S = 1.0
TREE_LIMIT = 1000  # rollouts of a tree in one answer


@dataclass(frozen=True, slots=True)
class Dashboard:
    """What the routes share."""

    store: TraceStore
    decoders: Decoders
    token: str | None
    threads: anyio.CapacityLimiter  # building rows and decoding are CPU work: off the loop


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

router = APIRouter(prefix="/api", dependencies=[Depends(demand_token)])


@router.get("/runs")
async def runs(shared: Shared) -> list[RunRecord]:
    """All runs, newest first."""
    return [RunRecord.of(run) for run in await shared.store.runs()]


@router.get("/environments")
async def environments(shared: Shared, run: RunId | None = None) -> list[EnvironmentId]:
    """The environments that groups of the run, or of all runs, were submitted for."""
    run_ids = [run] if run is not None else [summary.run_id for summary in await shared.store.runs()]
    return sorted({group.environment for run_id in run_ids for group in await shared.store.groups(run_id)})


@router.get("/rollouts")
async def rollouts(shared: Shared, filters: Annotated[RolloutFilters, Query()]) -> RolloutPage:
    """One page of the rollouts that the filters let through, newest first."""
    return await shared.store.rollouts(filters.query())


@router.get("/rollouts/{rollout_id}")
async def rollout(shared: Shared, summary: Known) -> RolloutRecord:
    """One rollout, the tree it stands in, and its transcript."""
    recorded, rows = await _recorded(shared, summary)
    tree = await shared.store.rollouts(RolloutQuery(root=summary.root, limit=TREE_LIMIT))
    started, ended = recorded.started, recorded.ended
    return RolloutRecord(
        summary=summary,
        request=started.request if started else None,
        seed=str(started.seed) if started else None,
        tree=list(tree.rollouts),
        tree_size=tree.total,
        transcript=recorded.transcript(rows),
        score=ended.score if ended else None,
        failure=ended.failure if ended else None,
        usage=ended.usage if ended else None,
        logs=[LogLine(at=log.at, message=log.message, fields=_json(log.fields)) for log in recorded.logs],
    )


@router.get("/rollouts/{rollout_id}/rows")
async def rows(shared: Shared, summary: Known) -> list[RowRecord]:
    """The rows of its trajectory, one a branch, without their tokens."""
    _, built = await _recorded(shared, summary)
    return [RowRecord.of(number, row) for number, row in enumerate(built.rows)]


@router.get("/rollouts/{rollout_id}/rows/{row}/tokens")
async def tokens(
    shared: Shared,
    summary: Known,
    row: int,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=16_384)] = 4096,
) -> RowTokens:
    """A window of one row's tokens, by column; empty past its end."""
    _, built = await _recorded(shared, summary)
    if not 0 <= row < len(built.rows):
        raise HTTPException(404, f"rollout '{summary.rollout_id}' has {len(built.rows)} rows; there is no row {row}")
    decode = await shared.decoders.of(summary.run_id)
    cut = partial(RowTokens.cut, row, built.rows[row], offset, limit, decode)
    return await run_sync(cut, limiter=shared.threads)


@router.get("/events", response_class=StreamingResponse, responses={200: {"content": {"text/event-stream": {}}}})
async def events(shared: Shared, rollout: RolloutId | None = None) -> StreamingResponse:
    """`changed` whenever the list of rollouts or, with `rollout`, that rollout's tree has changed."""
    look = partial(look_at_list, shared.store) if rollout is None else partial(look_at_tree, shared.store, rollout)
    stream = changes(look, partial(anyio.sleep, POLL_S))
    return StreamingResponse(stream, media_type="text/event-stream")


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/{path:path}", include_in_schema=False)
async def unknown(path: str) -> None:
    raise HTTPException(404, f"no '/api/{path}'; /api/openapi.json describes the API")


async def _recorded(shared: Dashboard, summary: RolloutSummary) -> tuple[Recorded, Trajectory]:
    recorded = await Recorded.read(shared.store, summary.run_id, summary.rollout_id)
    return recorded, await run_sync(trajectory, recorded.turns, limiter=shared.threads)


def _json(fields: Mapping[str, object]) -> dict[str, object]:
    """Fields of a log line, which a plug-in may fill with anything, as JSON."""
    return cast(dict[str, object], json.loads(json.dumps(fields, default=repr)))
