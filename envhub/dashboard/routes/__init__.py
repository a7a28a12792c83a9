"""The JSON API, a module for each page: what the page asks for, each answer typed."""

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import JSONResponse

from envhub.dashboard.routes import control, environments, exports, groups, lists, overview, rollout, tokens
from envhub.dashboard.security import caller

router = APIRouter(prefix="/api", dependencies=[Depends(caller)])
for part in (lists, overview, environments, groups, control, exports, rollout, tokens):
    router.include_router(part.router)


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> JSONResponse:
    return JSONResponse(request.app.openapi())


@router.get("/{path:path}", include_in_schema=False)
async def unknown(path: str) -> None:
    raise HTTPException(404, f"no '/api/{path}'; /api/openapi.json describes the API")
