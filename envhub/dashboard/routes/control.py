"""Steering the run that this process plays: for operators, each act confirmed by the run's name, and recorded."""

from collections.abc import Awaitable, Callable

import anyio
from fastapi import APIRouter, Depends, HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field

from envhub.contracts.delivery import Control, RunLimits
from envhub.contracts.events import OperatorActed
from envhub.contracts.ids import GroupId, RunId
from envhub.contracts.messages import JsonObject
from envhub.contracts.pause import PauseMode, Scope
from envhub.dashboard.security import DASHBOARD, demand_operator
from envhub.dashboard.shared import Dashboard, Shared
from envhub.errors import AccessRefused, EnvhubError, UsageError
from envhub.monitor.cpu_profile import LONGEST_S

PATIENCE_S = 1.0

router = APIRouter(prefix="/runs/{run_id}")
operator = APIRouter(dependencies=[Depends(demand_operator)])


class Confirmed(BaseModel):
    """An act, confirmed by repeating the id of the run that it is for."""

    model_config = ConfigDict(extra="forbid")

    confirm: str


class PauseOrder(Confirmed):
    mode: PauseMode = PauseMode.CUT
    scope: Scope = Scope()


class ResumeOrder(Confirmed):
    pinned: bool = False  # turns that were cut go on under the version that they began with
    scope: Scope = Scope()


class LimitOrder(Confirmed):
    max_running: int | None = Field(default=None, ge=1)
    max_groups: int | None = Field(default=None, ge=1)


class CancelOrder(Confirmed):
    group_id: GroupId


class AbortOrder(Confirmed):
    scope: Scope


class ProfileOrder(Confirmed):
    seconds: float = Field(default=10.0, gt=0, le=LONGEST_S)


class Done(BaseModel):
    """What was done."""

    done: str


class AuditRecord(BaseModel):
    """What somebody did by hand."""

    at: float
    operator: str
    role: str  # of its token; "": nobody's
    address: str
    via: str  # dashboard, feed, gateway or signal
    action: str
    detail: dict[str, object]
    refused: str  # why it was not done; "": it was


@router.get("/audit")
async def audit(shared: Shared, run_id: RunId) -> list[AuditRecord]:
    """What was done to the run by hand, newest first."""
    acts = [event for event in await shared.store.run_events(run_id) if isinstance(event, OperatorActed)]
    return [AuditRecord(**{name: getattr(act, name) for name in AuditRecord.model_fields}) for act in reversed(acts)]


@operator.post("/pause")
async def pause(request: Request, shared: Shared, run_id: RunId, order: PauseOrder) -> Done:
    """Holds rollouts before their next generation, and what generates now as the mode says."""
    return await _act(request, shared, run_id, "pause", order, lambda run: run.pause(order.scope, order.mode))


@operator.post("/resume")
async def resume(request: Request, shared: Shared, run_id: RunId, order: ResumeOrder) -> Done:
    """Lets go what that pause holds."""
    return await _act(
        request, shared, run_id, "resume", order, lambda run: run.resume(order.scope, pinned=order.pinned)
    )


@operator.post("/drain")
async def drain(request: Request, shared: Shared, run_id: RunId, order: Confirmed) -> Done:
    """Takes no more groups; what there is goes on to its end, which is not waited for."""
    return await _act(request, shared, run_id, "drain", order, lambda run: _begun(run.drain()))


@operator.post("/limit")
async def limit(request: Request, shared: Shared, run_id: RunId, order: LimitOrder) -> Done:
    """How many rollouts act, and how many groups there are, at once."""
    limits = RunLimits(max_groups=order.max_groups, max_running=order.max_running)
    return await _act(request, shared, run_id, "limit", order, lambda run: run.limit(limits))


@operator.post("/cancel")
async def cancel(request: Request, shared: Shared, run_id: RunId, order: CancelOrder) -> Done:
    """Ends a group now; none of it is delivered."""
    return await _act(request, shared, run_id, "cancel", order, lambda run: _begun(run.cancel(order.group_id)))


@operator.post("/abort")
async def abort(request: Request, shared: Shared, run_id: RunId, order: AbortOrder) -> Done:
    """Ends rollouts now: cancelled, with all that they have recorded."""
    return await _act(request, shared, run_id, "abort", order, lambda run: run.abort(order.scope))


@operator.post("/profile")
async def profile(request: Request, shared: Shared, run_id: RunId, order: ProfileOrder) -> Done:
    """Takes a profile of the event loop's CPU time; answers when it is taken, and `envhub profile` shows it."""
    profiler = shared.live.profiler if shared.live else None

    async def take(run: Control) -> None:
        if profiler is None:
            raise UsageError("this process takes no profiles; `envhub serve` does")
        await profiler.take(order.seconds)

    return await _act(request, shared, run_id, "profile", order, take)


async def _begun(act: Awaitable[None]) -> None:
    """Waits a moment for something that needs no waiting for once it has begun."""
    with anyio.move_on_after(PATIENCE_S):
        await act


async def _act(
    request: Request,
    shared: Dashboard,
    run_id: RunId,
    action: str,
    order: Confirmed,
    act: Callable[[Control], Awaitable[object]],
) -> Done:
    """Does it, and records that it was done, or why not.

    Raises:
        HTTPException: 409, another process plays that run, or none, or the run refused; 422, it was not confirmed.
        RateExceeded: this caller acts too often.
    """
    live = shared.live
    if live is None or live.run_id != run_id:
        raise HTTPException(409, f"this process does not play run '{run_id}'; ask the one that does: it serves a page")
    detail: JsonObject = order.model_dump(mode="json", exclude={"confirm"}, exclude_defaults=True)
    try:
        async with live.acts.acting(request.state.caller, DASHBOARD, action, detail):
            if order.confirm != run_id:
                raise Unconfirmed(f"confirm is '{order.confirm}'; repeat the run's id, '{run_id}'")
            await act(live.control)
    except AccessRefused:
        raise
    except EnvhubError as error:
        raise HTTPException(422 if isinstance(error, Unconfirmed) else 409, str(error)) from error
    return Done(done=action)


class Unconfirmed(UsageError):
    """The act does not name its run."""


router.include_router(operator)
