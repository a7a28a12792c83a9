"""The gateway's HTTP application: OpenAI's routes for agents, and envhub's own for programs that open a rollout.

Every call under a session's key is an act of that rollout's policy. Errors are OpenAI's JSON on every route.
"""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from envhub.contracts.policy import Action
from envhub.errors import EnvhubError
from envhub.gateway.call_response import CallResponse
from envhub.gateway.control import control_router
from envhub.gateway.desk import OpenRollout
from envhub.gateway.dialects import openai_chat
from envhub.gateway.errors import ApiError, api_error
from envhub.gateway.http import bearer, json_response, read_json
from envhub.gateway.sessions import Session, Sessions

KEEP_ALIVE_S = 10.0


def create_app(
    sessions: Sessions,
    *,
    control_token: str | None = None,
    open_rollout: OpenRollout | None = None,  # None: rollouts are opened from within only
    keep_alive_s: float = KEEP_ALIVE_S,  # between comments in a stream that waits for its answer
    clock: Callable[[], float] = time.time,
) -> FastAPI:
    """The application. `control_token` guards the routes that open rollouts; without it only this machine may."""
    # No schema is served: bodies are read by the dialects, and agents need no documentation pages.
    app = FastAPI(openapi_url=None, exception_handlers=_handlers())

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        session = sessions.find(bearer(request))
        asked = openai_chat.parse(await read_json(request, object), session.sampling)
        return _chat_response(session, asked, created=int(clock()), keep_alive_s=keep_alive_s)

    @app.get("/v1/models")
    async def models(request: Request) -> Response:
        sessions.find(bearer(request))
        return json_response(openai_chat.models_json(int(clock())))

    @app.get("/healthz")
    async def healthz() -> Response:
        return json_response({"status": "ok"})

    if open_rollout is not None:
        app.include_router(control_router(sessions, open_rollout, token=control_token))
    return app


def _chat_response(
    session: Session, asked: openai_chat.ChatRequest, *, created: int, keep_alive_s: float
) -> CallResponse:
    def encode(action: Action) -> bytes:
        id = f"chatcmpl-{session.rollout_id}-{action.turn}"
        if asked.stream:
            return openai_chat.events(asked, action, id=id, created=created)
        return msgspec.json.encode(openai_chat.completion(asked, action, id=id, created=created))

    return CallResponse(
        partial(session.act, asked.input),
        encode,
        openai_chat.error_event,
        media_type="text/event-stream" if asked.stream else "application/json",
        keep_alive_s=keep_alive_s if asked.stream else math.inf,
    )


def _handlers() -> dict[int | type[Exception], Callable[[Request, Any], Any]]:  # Any: Starlette's own type
    return {EnvhubError: _answer_error, HTTPException: _answer_http, Exception: _answer_bug}


async def _answer_error(request: Request, error: EnvhubError) -> Response:
    answer = api_error(error)
    return json_response(openai_chat.error_json(answer), status=answer.status, headers=answer.headers)


async def _answer_http(request: Request, error: HTTPException) -> Response:
    complaint = f"{request.method} {request.url.path}: {error.detail}"
    return await _answer_error(request, ApiError(error.status_code, "no_such_route", complaint))


async def _answer_bug(request: Request, error: Exception) -> Response:
    """The server logs it with its traceback."""
    return await _answer_error(request, ApiError(500, "internal_error", f"the gateway failed: {type(error).__name__}"))
