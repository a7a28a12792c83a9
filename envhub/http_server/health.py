"""Health: whether a server is alive, and whether it takes work, for whatever starts and stops it."""

from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

Reason: TypeAlias = Callable[[], str]  # why no work is taken; "": it is

ALIVE, READY = "/healthz", "/readyz"


class Health:
    """An app with two more paths, which take no token and tell no secret.

    GET /healthz is 200 while the process answers. GET /readyz is 200 while it takes work; else 503, with the reason.
    """

    def __init__(self, app: ASGIApp, unready: Reason) -> None:
        self._app = app
        self._unready = unready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (ALIVE, READY) or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        reason = self._unready() if scope["path"] == READY else ""
        answer = JSONResponse({"status": reason or "ok"}, 503 if reason else 200)
        await answer(scope, receive, send)
