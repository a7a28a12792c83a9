"""The tokens of a rollout: its rows, windows of them, its branches and its calls."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from anyio.to_thread import run_sync
from fastapi import APIRouter, HTTPException, Query

from envhub.contracts.store import RolloutSummary
from envhub.contracts.trajectory import Row
from envhub.dashboard.branches import Branches, branches
from envhub.dashboard.calls import CallDetail, CallRecord, call_detail, calls
from envhub.dashboard.marks import RowMarks, marks
from envhub.dashboard.records import RowRecord, RowTokens
from envhub.dashboard.shared import Dashboard, Known, Shared

MOST_TOKENS = 65_536  # of one window

router = APIRouter(prefix="/rollouts/{rollout_id}")


@router.get("/rows")
async def rows(shared: Shared, summary: Known) -> list[RowRecord]:
    """The rows of its trajectory, one a branch, without their tokens."""
    _, built = await shared.recorded(summary)
    return [RowRecord.of(number, row) for number, row in enumerate(built.rows)]


@router.get("/rows/{row}/tokens")
async def tokens(
    shared: Shared,
    summary: Known,
    row: int,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_TOKENS)] = 4096,
) -> RowTokens:
    """A window of one row's tokens, by column; empty past its end."""
    found = await _rows(shared, summary, row)
    decode = await shared.decoders.of(summary.run_id)
    return await run_sync(partial(RowTokens.cut, row, found[row], offset, limit, decode), limiter=shared.threads)


@router.get("/rows/{row}/marks")
async def row_marks(shared: Shared, summary: Known, row: int, below: float = -5.0) -> RowMarks:
    """Where there is something to jump to: tokens whose logprob is below that, forks, versions, turns."""
    found = await _rows(shared, summary, row)
    return await run_sync(partial(marks, found, row, below), limiter=shared.threads)


@router.get("/branches")
async def rollout_branches(shared: Shared, summary: Known) -> Branches:
    """Its turns as the tree that they are."""
    recorded, built = await shared.recorded(summary)
    return branches(recorded.turns, built.rows)


@router.get("/calls")
async def rollout_calls(shared: Shared, summary: Known) -> list[CallRecord]:
    """Its model calls."""
    recorded, _ = await shared.recorded(summary)
    return calls(recorded.turns)


@router.get("/calls/{turn}")
async def call(shared: Shared, summary: Known, turn: int) -> CallDetail:
    """One model call: what was asked, what was made of it, and what is new."""
    recorded, _ = await shared.recorded(summary)
    found = call_detail(recorded.turns, turn, recorded.raw_calls.get(turn))
    if found is None:
        raise HTTPException(404, f"rollout '{summary.rollout_id}' has no call {turn}; /calls lists those it has")
    return found


async def _rows(shared: Dashboard, summary: RolloutSummary, row: int) -> Sequence[Row]:
    _, built = await shared.recorded(summary)
    count = len(built.rows)
    if not 0 <= row < count:
        raise HTTPException(404, f"rollout '{summary.rollout_id}' has {count} rows; there is no row {row}")
    return built.rows
