"""Who may ask, and what a browser may do with the answers."""

import math
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envhub.contracts.access import Caller, Role
from envhub.contracts.guard import Guard
from envhub.dashboard.live_run import LiveRun
from envhub.errors import AccessRefused, RateExceeded, UnknownCaller, WrongRole
from envhub.http_server import names_loopback

DASHBOARD = "dashboard"  # the door, in the log of acts
LONGEST_ACTION = 20  # letters of what was asked for, which somebody unknown may have chosen
MAX_BODY = 64 * 1024  # bytes of a request: acts are short

# Text that a model wrote is shown as text; should a script ever slip through, the policy does not run it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class SecurityHeaders:
    """Puts HEADERS on every answer, and lets nothing be stored that does not say otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class SmallBodies:
    """Refuses what is larger than MAX_BODY, before it is kept: whoever connects may send a body, token or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def receive_some() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes, and no request here needs as much")
            return message

        await self._app(scope, receive_some, send)


class LoopbackNames:
    """Answers only who asked for a name of loopback. A web page may have its own name resolve to this machine (DNS
    rebinding) and would then read the answers as its own; it can't choose the Host that its browser sends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            app = app if names_loopback(host) else _refusal(host)
        await app(scope, receive, send)


def _refusal(host: str) -> ASGIApp:
    rule = f"without a token this dashboard answers as 127.0.0.1, [::1] or localhost only, not as '{host}'"
    return JSONResponse({"detail": f"{rule}; open it by one of these, or set a token"}, 403)


async def caller(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
) -> Caller:
    """Whose request it is: of somebody who may look.

    Raises:
        AccessRefused: the token, or too many wrong ones.
    """
    guard: Guard = request.app.state.dashboard.guard
    found = guard.caller(given.credentials if given else "", address_of(request))
    request.state.caller = found
    guard.demand(found, Role.VIEWER)
    return found


AnyCaller = Annotated[Caller, Depends(caller)]


async def demand_operator(request: Request, caller: AnyCaller) -> None:
    """
    Raises:
        WrongRole: who may look only, and what a page of another origin asks in a browser's name.
    """
    guard: Guard = request.app.state.dashboard.guard
    guard.demand(caller, Role.OPERATOR)
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise WrongRole(f"a page of '{origin}' may not steer a run; use the dashboard's own page")


async def turned_away(request: Request, error: Exception) -> Response:
    """The answer to who may not; who would have steered is recorded."""
    assert isinstance(error, AccessRefused)
    live: LiveRun | None = request.app.state.dashboard.live
    if live and request.method not in ("GET", "HEAD"):
        who = getattr(request.state, "caller", None) or Caller(None, address_of(request))
        await live.acts.turned_away(who, DASHBOARD, request.url.path.rpartition("/")[2][:LONGEST_ACTION], str(error))
    match error:
        case RateExceeded():
            status, headers = 429, {"Retry-After": str(math.ceil(error.retry_after_s))}
        case UnknownCaller():
            status, headers = 401, {"WWW-Authenticate": "Bearer"}
        case _:
            status, headers = 403, {}
    return JSONResponse({"detail": str(error)}, status, headers)


def address_of(request: Request) -> str:
    return request.client.host if request.client else "unknown"
