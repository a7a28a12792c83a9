"""Opening a rollout from outside, and finishing it: POST /envhub/v1/sessions and .../{rollout_id}/finish.

open {"environment": "demo/sums-v0", "task": 0} -> {"rollout_id", "base_url", "api_key", "messages"}
finish {"answer": "4"}, with that key           -> {"rollout_id", "status", "reward", "components", "failure"}
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive

from envhub.contracts.access import Caller, Role
from envhub.contracts.context import Endpoint
from envhub.contracts.guard import Guard
from envhub.contracts.messages import JsonObject
from envhub.contracts.outcome import Outcome
from envhub.errors import AccessRefused, EnvhubError
from envhub.gateway.call_response import cancel_when_left
from envhub.gateway.desk import OpenedRollout, OpenRollout, Question
from envhub.gateway.dialects.openai_chat_reply import message_json
from envhub.gateway.errors import ApiError
from envhub.gateway.http import bearer, json_response, read_json
from envhub.gateway.sessions import Sessions
from envhub.http_server import is_loopback, names_loopback
from envhub.monitor.acts import Acts

OPEN_S = 60.0  # a rollout that has not asked by then, for want of room, a slot or a sandbox, is cancelled
CANCEL_S = 30.0
OPEN_PATH = "/envhub/v1/sessions"
FINISH_PATH = "/envhub/v1/sessions/{rollout_id}/finish"
AUTHORITY = re.compile(r"([\w.-]+|\[[\da-fA-F:.]+\])(:\d{1,5})?", re.ASCII)  # RFC 3986 3.2.2, without odd host names


class OpenBody(msgspec.Struct):
    """Which task of which environment: its index, or its id."""

    environment: str
    task: int | str


class FinishBody(msgspec.Struct):
    """The final answer."""

    answer: str


def control_routes(sessions: Sessions, open_rollout: OpenRollout, guard: Guard, acts: Acts | None) -> list[Route]:
    """Routes for programs that bring their own agent."""

    async def open_session(request: Request) -> Response:
        await admit_agent(request, guard, acts)
        body = await read_json(request, OpenBody, sessions.room)
        rollout, question = await _open(sessions, open_rollout, body, request.receive)
        base_url = _base_url(request, question.endpoint)
        return json_response(_opened(rollout, question, base_url), status=201)

    async def finish_session(request: Request) -> Response:
        rollout_id = request.path_params["rollout_id"]
        session = sessions.find(bearer(request))
        if session.rollout_id != rollout_id:
            raise ApiError(403, "wrong_rollout", f"this key is of rollout '{session.rollout_id}', not '{rollout_id}'")
        body = await read_json(request, FinishBody, session.room)
        rollout = sessions.desk.answer(session.rollout_id, body.answer)
        if rollout is None:
            raise ApiError(409, "no_answer_awaited", f"rollout '{rollout_id}' awaits no answer, or has it already")
        return json_response(_ended(await rollout.outcome()))

    return [
        Route(OPEN_PATH, open_session, methods=["POST"]),
        Route(FINISH_PATH, finish_session, methods=["POST"]),
    ]


async def admit_agent(request: Request, guard: Guard, acts: Acts | None) -> None:
    """Lets in who may open a rollout: the token of an agent or an operator. Where there are no tokens, programs of this
    machine, but no web page open on it.

    Raises:
        AccessRefused: the token, or the rate.
        ApiError: 403, no program of this machine.
    """
    if guard.open and ("origin" in request.headers or not _is_local(request)):
        message = "without a token only programs on this machine are served; set one to allow others"
        raise ApiError(403, "forbidden", message)
    caller = Caller(None, request.client.host if request.client else "")
    try:
        caller = guard.caller(bearer(request), caller.address)
        guard.demand(caller, Role.AGENT)
        guard.spend("session", caller)
    except AccessRefused as error:
        if acts is not None:
            await acts.turned_away(caller, "gateway", "open", str(error))
        raise


def _is_local(request: Request) -> bool:
    """By address, and by the Host that was asked for."""
    named = names_loopback(request.headers.get("host", ""))
    return named and request.client is not None and is_loopback(request.client.host)


async def _open(
    sessions: Sessions, open_rollout: OpenRollout, body: OpenBody, receive: Receive
) -> tuple[OpenedRollout, Question]:
    """A rollout and what it asks. One that does not ask in time, or whose client hangs up first, is cancelled.

    Raises:
        ApiError: it did not start in time, or ended before it asked.
        UsageError: no such environment or task.
    """
    with anyio.move_on_after(OPEN_S):
        async with _until_left(receive):
            rollout = await open_rollout(body.environment, body.task)
            async with _cancelled_unless_met(rollout):
                question = await sessions.desk.meet(rollout)
            if question is None:
                raise _never_asked(await rollout.outcome())
            return rollout, question
    message = f"no rollout of '{body.environment}' started within {OPEN_S:g} s; the run is busy"
    raise ApiError(503, "busy", message, retryable=True)  # also where the client has left: nobody reads it


@asynccontextmanager
async def _until_left(receive: Receive) -> AsyncIterator[None]:
    """Cuts the block when the client hangs up. Its own errors come out as they are, in no group."""
    refused: EnvhubError | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_when_left, receive, tasks.cancel_scope)
        try:
            yield
        except EnvhubError as error:
            refused = error
        tasks.cancel_scope.cancel()
    if refused is not None:
        raise refused


@asynccontextmanager
async def _cancelled_unless_met(rollout: OpenedRollout) -> AsyncIterator[None]:
    met = False
    try:
        yield
        met = True
    finally:
        if not met:
            with anyio.move_on_after(CANCEL_S, shield=True):
                await rollout.cancel()


def _never_asked(outcome: Outcome) -> ApiError:
    why = outcome.failure.message if outcome.failure else outcome.truncated_by or str(outcome.status)
    retryable = outcome.failure is not None and outcome.failure.retryable
    message = f"rollout '{outcome.rollout_id}' ended before its agent could start: {why}"
    return ApiError(503 if retryable else 500, "rollout_failed", message, retryable=retryable)


def _base_url(request: Request, endpoint: Endpoint) -> str:
    """The gateway under the name by which the program reached it: the address it listens on may be 0.0.0.0."""
    host = request.headers.get("host", "")
    return f"{request.url.scheme}://{host}/v1" if AUTHORITY.fullmatch(host) else endpoint.url


def _opened(rollout: OpenedRollout, question: Question, base_url: str) -> JsonObject:
    return {
        "rollout_id": rollout.rollout_id,
        "base_url": base_url,
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
