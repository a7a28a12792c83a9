"""Calls as they went over the wire: kept where somebody asked for it, whole up to a bound, and without a key."""

import json

import anyio
import httpx
import pytest

from envhub.contracts.engine import Engine
from envhub.contracts.events import CallRecorded
from envhub.contracts.raw_call import MAX_BODY_BYTES, RawCall
from envhub.dashboard.api import create_app
from envhub.gateway.call_rules import CallRules
from envhub.gateway.kept_calls import HIDDEN
from tests.gateway.recording import Caller, Valve, gateway_run
from tests.gateway.test_call_rules import ASKED

pytestmark = pytest.mark.anyio

KEPT = CallRules(keep_bodies=True)
USER = [{"role": "user", "content": "hello"}]


async def kept(program, rules: CallRules = KEPT, around=lambda engine: engine) -> list[RawCall]:
    """What is recorded of the calls of a program, once its rollout has ended."""
    callers: list[Caller] = []

    async def noted(caller: Caller) -> None:
        callers.append(caller)
        await program(caller)

    async with gateway_run(lambda asked: "yes", rules=rules, around=around) as play:
        await play(noted)
        (caller,) = callers
        events = await caller.run.events()
    calls = [event.call for event in events if isinstance(event, CallRecorded)]
    for call in calls:
        assert caller.endpoint.key not in f"{call} {call.request.data!r} {call.response.data!r}"
    return calls


@pytest.mark.parametrize("path", ASKED)
async def test_every_dialect_is_kept_in_its_own_words(path):
    answers: list[dict] = []

    async def program(caller: Caller) -> None:
        answers.append(await caller.post(path, ASKED[path]))

    (call,) = await kept(program)
    assert (call.turn, call.method, call.path, call.status) == (0, "POST", path, 200)
    assert json.loads(call.request.data) == ASKED[path]
    assert [json.loads(call.response.data)] == answers
    assert call.response_headers["content-type"] == "application/json"


async def test_nothing_is_kept_unasked():
    assert await kept(lambda caller: caller.post("/v1/chat/completions", {"messages": USER}), CallRules()) == []


async def test_a_stream_is_kept_whole():
    async def program(caller: Caller) -> None:
        answer = await caller.http.post("/v1/chat/completions", json={"messages": USER, "stream": True})
        streamed.append(answer.content)

    streamed: list[bytes] = []
    (call,) = await kept(program)
    assert [call.response.data] == streamed
    assert call.response.data.endswith(b"data: [DONE]\n\n")


async def test_keys_are_hidden_wherever_a_caller_puts_them():
    async def program(caller: Caller) -> None:
        key = caller.endpoint.key
        body = {"messages": [{"role": "user", "content": f"my key is {key}"}]}
        headers = {"x-api-key": key, "x-odd": f"odd {key}", "cookie": "session=1"}
        await caller.http.post("/v1/chat/completions", json=body, headers=headers)
        del caller.http.headers["authorization"]
        await caller.http.post(f"/r/{key}/v1/chat/completions", json={"messages": USER})
        await caller.http.post(f"/v1/chat/completions?key={key}", json={"messages": USER})

    by_header, by_path, by_query = await kept(program)
    shown = {name: by_header.request_headers[name] for name in ("authorization", "x-api-key", "cookie", "x-odd")}
    assert shown == {"authorization": HIDDEN, "x-api-key": HIDDEN, "cookie": HIDDEN, "x-odd": f"odd {HIDDEN}"}
    assert f"my key is {HIDDEN}".encode() in by_header.request.data
    assert by_path.path == by_query.path == "/v1/chat/completions"


async def test_of_a_long_body_the_beginning_is_kept_and_its_size():
    content = "word " * (MAX_BODY_BYTES // 4)

    async def program(caller: Caller) -> None:
        body = json.dumps({"unknown": content, "messages": USER})
        answer = await caller.http.post("/v1/chat/completions", content=body)
        assert answer.status_code == 200

    (call,) = await kept(program)
    assert len(call.request.data) == MAX_BODY_BYTES < call.request.size_bytes
    assert len(call.request.packed) < 50_000


async def test_a_call_whose_client_hangs_up_is_kept_with_what_it_asked():
    valves: list[Valve] = []

    def valve(engine: Engine) -> Engine:
        valves.append(Valve(engine))
        return valves[-1]

    async def program(caller: Caller) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.post, "/v1/chat/completions", {"messages": USER})
            await valves[0].waiting.wait()
            tasks.cancel_scope.cancel()
        # The gateway ends the call at its own pace, and nobody is told.
        while not any(isinstance(event, CallRecorded) for event in await caller.run.events()):  # noqa: ASYNC110
            await anyio.sleep(0.01)

    with anyio.fail_after(10):
        (call,) = await kept(program, around=valve)
    assert json.loads(call.request.data) == {"messages": USER}
    assert call.turn == 0


async def test_the_dashboard_shows_it_beside_the_canonical_form():
    shown: list[dict] = []

    async def program(caller: Caller) -> None:
        await caller.post("/v1/messages", {"messages": USER, "max_tokens": 5})
        await caller.run.events()  # by now all is in the store
        transport = httpx.ASGITransport(create_app(caller.run.store, None))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as page:
            (rollout,) = (await page.get("/api/rollouts")).json()["rollouts"]
            shown.append((await page.get(f"/api/rollouts/{rollout['rollout_id']}/calls/0")).json())

    await kept(program)
    raw = shown[0]["raw"]
    assert (raw["path"], raw["status"], raw["note"]) == ("/v1/messages", 200, "")
    assert json.loads(raw["request_body"]) == {"messages": USER, "max_tokens": 5}
    assert json.loads(raw["response_body"])["type"] == "message"
    assert raw["request_headers"]["authorization"] == HIDDEN
