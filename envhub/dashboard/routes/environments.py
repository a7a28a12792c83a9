"""Environments and tasks."""

from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query

from envhub.contracts.events import RolloutEnded, RolloutStarted
from envhub.contracts.ids import RunId
from envhub.contracts.store import RolloutSummary
from envhub.contracts.task import Task
from envhub.dashboard.conditions import Conditions, CurveQuery
from envhub.dashboard.environments import (
    EnvironmentReport,
    TaskReport,
    failure_classes,
    response_classes,
)
from envhub.dashboard.shared import Dashboard, Shared
from envhub.errors import UsageError
from envhub.monitor.agreement import judge_agreement
from envhub.monitor.figures import (
    EnvironmentFigures,
    Rows,
    environment_figures,
    heat,
    reward_histogram,
    truncations,
    version_points,
)
from envhub.monitor.rollout_table import STATUSES, RolloutTable

NEWEST = 500  # failures, and scored rollouts, that are looked into
SHOWN = 100  # rollouts of a task

router = APIRouter()


@router.get("/environments/summary")
async def summary(shared: Shared, query: Annotated[CurveQuery, Query()]) -> list[EnvironmentFigures]:
    """Each environment in a line."""
    return await shared.figures(query, environment_figures, pass_at=query.pass_at)


@router.get("/environments/report")
async def report(shared: Shared, query: Annotated[CurveQuery, Query()]) -> EnvironmentReport:
    """One environment: `environment` names it."""
    figures = await _figures(shared, query)
    failed = await _newest(shared, query, "failed", NEWEST)
    ends = await _ends(shared, await _newest(shared, query, "completed", NEWEST))
    return EnvironmentReport(
        figures=figures,
        pass_at=query.pass_at,
        versions=list(await shared.figures(query, version_points, pass_at=query.pass_at)),
        heat=await shared.figures(query, heat, pass_at=query.pass_at),
        reward=await shared.figures(query, reward_histogram),
        failures=failure_classes(failed),
        truncated=await shared.figures(query, truncations),
        judges=judge_agreement(event.score.components for event in ends if event.score),
    )


@router.get("/tasks/report")
async def task_report(shared: Shared, query: Annotated[CurveQuery, Query()]) -> TaskReport:
    """One task: `environment` and `task` name it."""
    if not query.task:
        raise UsageError("task is missing; name one, as the list of rollouts shows it")
    figures = await _figures(shared, query)
    newest = await _newest(shared, query, "", SHOWN)
    task = await _task(shared, newest[0])
    return TaskReport(
        environment=figures.environment,
        task_id=query.task,
        prompt=list(task.prompt) if task else [],
        answer=task.answer if task else None,
        figures=figures,
        pass_at=query.pass_at,
        versions=list(await shared.figures(query, version_points, pass_at=query.pass_at)),
        reward=await shared.figures(query, reward_histogram),
        rollouts=newest,
        responses=response_classes(await _ends(shared, newest)),
    )


async def _figures(shared: Dashboard, query: CurveQuery) -> EnvironmentFigures:
    """
    Raises:
        UsageError: not just one environment is named.
        HTTPException: 404, no rollout is of it.
    """
    if len(query.environment) != 1:
        raise UsageError(f"environment is {query.environment}; name one")
    found = await shared.figures(query, environment_figures, pass_at=query.pass_at)
    if not found:
        raise HTTPException(404, f"no rollout of '{query.environment[0]}' is like that; /api/rollouts lists all")
    return found[0]


async def _newest(shared: Dashboard, conditions: Conditions, status: str, limit: int) -> list[RolloutSummary]:
    def rows(table: RolloutTable, rows: Rows, status: str, limit: int) -> list[int]:
        if status:
            rows = rows[table["status"][rows] == STATUSES.index(status)]
        places: list[int] = np.flip(table["place"][rows[-limit:]]).tolist()
        return places

    places = await shared.figures(conditions, rows, status=status, limit=limit)
    return list(await shared.store.rollouts_at(places))


async def _ends(shared: Dashboard, rollouts: list[RolloutSummary]) -> list[RolloutEnded]:
    of_run: dict[RunId, list[RolloutSummary]] = {}
    for one in rollouts:
        of_run.setdefault(one.run_id, []).append(one)
    found: list[RolloutEnded] = []
    for run_id, some in of_run.items():
        events = await shared.store.events_of(run_id, [one.rollout_id for one in some], {RolloutEnded})
        found += [event for event in events if isinstance(event, RolloutEnded)]
    return found


async def _task(shared: Dashboard, one: RolloutSummary) -> Task | None:
    first = await anext(aiter(shared.store.events(one.run_id, one.rollout_id)), None)
    return first.request.task if isinstance(first, RolloutStarted) else None
