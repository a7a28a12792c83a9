"""The overview, and the streams that keep pages live."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any, cast

import anyio
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from envhub.contracts.ids import RolloutId
from envhub.contracts.store import RolloutQuery
from envhub.dashboard.live import STILL, changes, event
from envhub.dashboard.overview import Overview, changed, overview
from envhub.dashboard.shared import Dashboard, Shared

POLL_S = 1.0
WATCHED = 100  # rollouts of a tree whose turns are watched
STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
Window = Annotated[int, Query(ge=1, le=600)]
_AS_JSON = TypeAdapter(Overview)

router = APIRouter()


@router.get("/overview")
async def now(shared: Shared, run: str = "", window_s: Window = 300) -> Overview:
    """How the run, or everything, goes right now."""
    return await _look(shared, run, window_s)


@router.get("/overview/live", response_class=StreamingResponse, responses=STREAM)
async def live(shared: Shared, run: str = "", window_s: Window = 300) -> StreamingResponse:
    """The same, as `overview` events: at once, and then each second in which anything changed."""
    return StreamingResponse(_overviews(shared, run, window_s), media_type="text/event-stream")


@router.get("/events", response_class=StreamingResponse, responses=STREAM)
async def events(shared: Shared, rollout: RolloutId | None = None) -> StreamingResponse:
    """`changed` whenever the list of rollouts or, with `rollout`, that rollout's tree has changed."""
    look = partial(_look_at_list, shared) if rollout is None else partial(_look_at_tree, shared, rollout)
    stream = changes(partial(shared.looks.look, ("events", rollout), look), partial(anyio.sleep, POLL_S))
    return StreamingResponse(stream, media_type="text/event-stream")


async def _overviews(shared: Dashboard, run: str, window_s: int) -> AsyncIterator[str]:
    seen: Overview | None = None
    while True:
        found = await _look(shared, run, window_s)
        # Viewers share it, so that mostly it is the very same one.
        if found is seen or not changed(seen, found):
            yield STILL
        else:
            yield event("overview", _AS_JSON.dump_json(found).decode())
        seen = found
        await anyio.sleep(POLL_S)


async def _look(shared: Dashboard, run: str, window_s: int) -> Overview:
    look = partial(overview, shared, run, window_s)
    return cast(Overview, await shared.looks.look(("overview", run, window_s), look))


async def _look_at_list(shared: Dashboard) -> object:
    """What differs once a rollout starts or ends, or a member changes its state."""
    return (await shared.fresh.table()).revision, await shared.runs()


async def _look_at_tree(shared: Dashboard, rollout_id: RolloutId) -> object:
    """What differs once this rollout, or one in the tree it stands in, starts, takes a turn or ends."""
    summary = await shared.store.rollout(rollout_id)
    return summary, summary and await shared.store.rollouts(RolloutQuery(root=summary.root, limit=WATCHED))
