"""Who may ask, and what a browser may do with the answers."""

from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envhub.http_server import names_loopback

# Text that a model wrote is shown as text; should a script ever slip through, the policy does not run it.
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
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


async def demand_token(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
) -> None:
    """
    Raises:
        HTTPException: 401, where the dashboard has a token and this is not it.
    """
    token: str | None = request.app.state.dashboard.token
    if token is None or (given and compare_digest(given.credentials.encode(), token.encode())):
        return
    detail = "this dashboard asks for a token; send it as 'Authorization: Bearer TOKEN'"
    raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
