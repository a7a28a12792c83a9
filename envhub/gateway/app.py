"""The gateway's HTTP application: the routes that agents call, each in its dialect, and envhub's own for programs that
open a rollout.

Every call under a session's key is an act of that rollout's policy. The key comes as a header of any dialect, as
Gemini's query parameter, or in the path: /r/KEY before any route, for agents whose base URL is all that can be set.
"""

import time
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from envhub.contracts.guard import Guard
from envhub.errors import EnvhubError
from envhub.gateway.call_response import CallResponse
from envhub.gateway.control import control_routes
from envhub.gateway.desk import OpenRollout
from envhub.gateway.dialect import Asked
from envhub.gateway.dialects import COUNTS, DIALECTS, CountRoute, Dialect, dialect_of
from envhub.gateway.dialects.openai_chat_reply import models_json
from envhub.gateway.errors import ApiError, api_error
from envhub.gateway.hints import fork_of
from envhub.gateway.http import decoded, json_response, key_of, read_body
from envhub.gateway.kept_calls import KeptCall
from envhub.gateway.measured import Measured, Observe
from envhub.gateway.openapi import openapi
from envhub.gateway.sessions import Session, Sessions
from envhub.monitor.acts import Acts

KEEP_ALIVE_S = 10.0
PREFIX = "/r/"


def create_app(
    sessions: Sessions,
    *,
    guard: Guard | None = None,  # None: whoever is on this machine may open rollouts
    acts: Acts | None = None,
    open_rollout: OpenRollout | None = None,  # None: rollouts are opened from within only
    keep_alive_s: float = KEEP_ALIVE_S,  # between signs of life in a stream that waits for its answer
    clock: Callable[[], float] = time.time,
    observe: Observe | None = None,  # is told of each request
) -> ASGIApp:
    """The application. The `guard` stands before the routes that open rollouts, and `acts` gets who was turned away."""

    async def read(request: Request) -> tuple[Session, Asked, bytes]:
        session = sessions.find(key_of(request))
        body = await read_body(request, session.room)
        now, path, id = int(clock()), request.path_params, session.new_id()
        asked = Asked(decoded(body, object), session.sampling, session.rules, id, now, path, session.kept)
        return session, asked, body

    def answering(dialect: Dialect) -> Route:
        async def answer(request: Request) -> Response:
            session, asked, body = await read(request)
            call = dialect.parse(asked)
            kept = KeptCall(request, body, key_of(request)) if session.keeps_calls else None
            return CallResponse(
                call, session, size=len(body), fork=fork_of(request.headers), keep_alive_s=keep_alive_s, kept=kept
            )

        return Route(dialect.path, answer, methods=["POST"])

    def counting(route: CountRoute) -> Route:
        async def count(request: Request) -> Response:
            session, asked, _ = await read(request)
            return json_response(route.write(session.count(route.parse(asked))))

        return Route(route.path, count, methods=["POST"])

    async def models(request: Request) -> Response:
        sessions.find(key_of(request))
        return json_response(models_json(int(clock())))

    async def healthz(request: Request) -> Response:
        return json_response({"status": "ok"})

    async def described(request: Request) -> Response:
        return json_response(openapi())

    routes = [*map(answering, DIALECTS), *map(counting, COUNTS), Route("/v1/models", models)]
    routes += [Route("/healthz", healthz), Route("/envhub/v1/openapi.json", described)]
    if open_rollout is not None:
        routes += control_routes(sessions, open_rollout, guard or Guard(), acts)
    app: ASGIApp = Starlette(routes=routes, exception_handlers=_handlers())
    if observe is not None:
        app = Measured(app, [route.path for route in routes], observe)
    return KeyInPath(app)


class KeyInPath:
    """Takes /r/KEY off the path and puts the key where `key_of` finds it: no route, log or error sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path.startswith(PREFIX):
            key, _, rest = path[len(PREFIX) :].partition("/")
            path = f"/{rest}"
            scope = {**scope, "path": path, "raw_path": path.encode(), "key": key}
        await self._app(scope, receive, send)


def _handlers() -> dict[int | type[Exception], Callable[[Request, Any], Any]]:  # Any: Starlette's own type
    return {EnvhubError: _answer_error, HTTPException: _answer_http, Exception: _answer_bug}


async def _answer_error(request: Request, error: EnvhubError) -> Response:
    answer = api_error(error)
    write = dialect_of(request.url.path).error_json
    return json_response(write(answer), status=answer.status, headers=answer.headers)


async def _answer_http(request: Request, error: HTTPException) -> Response:
    complaint = f"{request.method} {request.url.path}: {error.detail}"
    return await _answer_error(request, ApiError(error.status_code, "no_such_route", complaint))


async def _answer_bug(request: Request, error: Exception) -> Response:
    """The server logs it with its traceback."""
    return await _answer_error(request, ApiError(500, "internal_error", f"the gateway failed: {type(error).__name__}"))
