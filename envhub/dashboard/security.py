"""Who may ask, and what a browser may do with the answers."""

from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from envhub.errors import UsageError
from envhub.http_server import names_loopback

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


class Access(StrEnum):
    """What somebody may do."""

    VIEWER = "viewer"  # look
    OPERATOR = "operator"  # and steer the run


@dataclass(frozen=True, slots=True)
class Tokens:
    """What callers prove themselves with. Without any, whoever reaches this dashboard is an operator."""

    operator: str | None = None
    viewer: str | None = None

    def __post_init__(self) -> None:
        for token in (self.operator, self.viewer):
            if token == "":
                raise UsageError("the dashboard's token is empty; give a long random one, or None for none")
        if self.viewer is not None and self.operator is None:
            raise UsageError("a token for viewers needs one for operators beside it: else everybody may steer the run")
        if self.viewer is not None and self.viewer == self.operator:
            raise UsageError("viewers and operators have the same token; give each role one of its own")

    def role_of(self, given: str | None) -> Access | None:
        """None: it is nobody's."""
        if self.operator is None or (given and _same(given, self.operator)):
            return Access.OPERATOR
        return Access.VIEWER if given and self.viewer and _same(given, self.viewer) else None


def _same(given: str, token: str) -> bool:
    return compare_digest(given.encode(), token.encode())


async def role(
    request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(HTTPBearer(auto_error=False))]
) -> Access:
    """Whose request it is.

    Raises:
        HTTPException: 401, where the dashboard has a token and this is none of its own.
    """
    tokens: Tokens = request.app.state.dashboard.tokens
    found = tokens.role_of(given.credentials if given else None)
    if found is None:
        detail = "this dashboard asks for a token; send it as 'Authorization: Bearer TOKEN'"
        raise HTTPException(401, detail, {"WWW-Authenticate": "Bearer"})
    return found


CallerRole = Annotated[Access, Depends(role)]


async def demand_operator(request: Request, caller: CallerRole) -> None:
    """
    Raises:
        HTTPException: 403, for viewers, and for what a page of another origin asks in a browser's name.
    """
    if caller is not Access.OPERATOR:
        raise HTTPException(403, "this token may look, not steer; ask with the operator's token")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, f"a page of '{origin}' may not steer a run; use the dashboard's own page")
