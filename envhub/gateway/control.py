"""Opening a rollout from outside, and finishing it: POST /envhub/v1/sessions and .../{rollout_id}/finish.

open {"environment": "demo/sums-v0", "task": 0} -> {"rollout_id", "base_url", "api_key", "messages"}
finish {"answer": "4"}, with that key           -> {"rollout_id", "status", "reward", "components", "failure"}
"""

import hmac

import anyio
import msgspec
from fastapi import APIRouter, Request, Response

from envhub.contracts.messages import JsonObject
from envhub.contracts.outcome import Outcome
from envhub.gateway.desk import OpenedRollout, OpenRollout, Question
from envhub.gateway.dialects.openai_chat import message_json
from envhub.gateway.errors import ApiError
from envhub.gateway.http import bearer, json_response, read_json
from envhub.gateway.sessions import Sessions
from envhub.http_server import is_loopback, names_loopback

OPEN_S = 60.0  # a rollout that has not asked by then, for want of a slot or a sandbox, is cancelled
PREFIX = "/envhub/v1"


class OpenBody(msgspec.Struct):
    """Which task of which environment: its index, or its id."""

    environment: str
    task: int | str


class FinishBody(msgspec.Struct):
    """The final answer."""

    answer: str


def control_router(sessions: Sessions, open_rollout: OpenRollout, *, token: str | None) -> APIRouter:
    """Routes for programs that bring their own agent."""
    router = APIRouter(prefix=PREFIX)

    @router.post("/sessions")
    async def open_session(request: Request) -> Response:
        admit_operator(request, token)
        body = await read_json(request, OpenBody)
        rollout = await open_rollout(body.environment, body.task)
        question = await _question(sessions, rollout)
        return json_response(_opened(rollout, question), status=201)

    @router.post("/sessions/{rollout_id}/finish")
    async def finish_session(rollout_id: str, request: Request) -> Response:
        session = sessions.find(bearer(request))
        if session.rollout_id != rollout_id:
            raise ApiError(403, "wrong_rollout", f"this key is of rollout '{session.rollout_id}', not '{rollout_id}'")
        body = await read_json(request, FinishBody)
        rollout = sessions.desk.answer(session.rollout_id, body.answer)
        if rollout is None:
            raise ApiError(409, "no_answer_awaited", f"rollout '{rollout_id}' awaits no answer, or has it already")
        return json_response(_ended(await rollout.outcome()))

    return router


def admit_operator(request: Request, token: str | None) -> None:
    """Lets in who knows the token; where none is set, programs of this machine, but no web page open on it.

    Raises:
        ApiError: 401 or 403.
    """
    if token:
        if not hmac.compare_digest(bearer(request).encode(), token.encode()):
            raise ApiError(401, "invalid_control_token", "the control token is missing or wrong; send it as the bearer")
    elif "origin" in request.headers or not _is_local(request):
        message = "without a control token only programs on this machine are served; set a token to allow others"
        raise ApiError(403, "forbidden", message)


def _is_local(request: Request) -> bool:
    """By address, and by the Host that was asked for."""
    named = names_loopback(request.headers.get("host", ""))
    return named and request.client is not None and is_loopback(request.client.host)


async def _question(sessions: Sessions, rollout: OpenedRollout) -> Question:
    question = None
    with anyio.move_on_after(OPEN_S) as waiting:
        question = await sessions.desk.meet(rollout)
    if waiting.cancelled_caught:
        await rollout.cancel()
        message = f"rollout '{rollout.rollout_id}' did not start within {OPEN_S:g} s; the run is busy"
        raise ApiError(503, "busy", message, retryable=True)
    if question is None:
        raise _never_asked(await rollout.outcome())
    return question


def _never_asked(outcome: Outcome) -> ApiError:
    why = outcome.failure.message if outcome.failure else outcome.truncated_by or str(outcome.status)
    retryable = outcome.failure is not None and outcome.failure.retryable
    message = f"rollout '{outcome.rollout_id}' ended before its agent could start: {why}"
    return ApiError(503 if retryable else 500, "rollout_failed", message, retryable=retryable)


def _opened(rollout: OpenedRollout, question: Question) -> JsonObject:
    return {
        "rollout_id": rollout.rollout_id,
        "base_url": question.endpoint.url,
        "api_key": question.endpoint.key,
        "messages": [message_json(message) for message in question.messages],
    }


def _ended(outcome: Outcome) -> JsonObject:
    return {
        "rollout_id": outcome.rollout_id,
        "status": str(outcome.status),
        "reward": outcome.reward,
        "components": dict(outcome.score.components) if outcome.score else {},
        "failure": outcome.failure.message if outcome.failure else None,
    }
