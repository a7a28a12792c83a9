"""/metrics: what Prometheus scrapes, under the same tokens as the API."""

from fastapi import APIRouter, Depends, HTTPException
from starlette.responses import Response

from envhub.dashboard.security import caller
from envhub.dashboard.shared import Shared
from envhub.monitor.metrics import CONTENT_TYPE

router = APIRouter(dependencies=[Depends(caller)])


@router.get("/metrics", include_in_schema=False)
async def metrics(shared: Shared) -> Response:
    """Of the run that this process plays."""
    if shared.live is None:
        raise HTTPException(404, "this process plays no run; scrape the one that does: `envhub serve`")
    return Response(shared.live.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
