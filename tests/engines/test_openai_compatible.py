import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import anyio
import pytest
from aiohttp import web

from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import PolicyId, RolloutId
from envhub.contracts.messages import Image, Message, Role, ToolCall
from envhub.contracts.policy import Heard, PolicyCall, PolicyInput
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Finish, Fork, Sampling, Turn
from envhub.engines import openai_compatible
from envhub.engines.openai_compatible import OpenAIPolicies, load
from envhub.errors import EngineFault, Truncated, UsageError

pytestmark = pytest.mark.anyio

KEY = "sk-very-secret"
WEATHER = ToolSpec("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})
PNG = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489")


def says(content: str | None = "Hello.", finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **more}
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    return {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}


def refusal(status: int, text: str) -> web.Response:
    return web.json_response({"error": {"message": text}}, status=status)


@dataclass
class Server:
    """Answers from `script`, in order, and keeps what it was asked."""

    script: list[dict[str, Any] | web.Response]
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    async def complete(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization", ""))
        answer = self.script.pop(0)
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


@dataclass
class Asked:
    """A policy over the server, and what it recorded."""

    server: Server
    policies: OpenAIPolicies
    turns: list[Turn] = field(default_factory=list)

    def __post_init__(self) -> None:
        sampling = Sampling(temperature=0.5, max_tokens=40)
        indices = count()
        self.policy = self.policies.policy(
            PolicyCall(RolloutId("r-0-0-0"), PolicyId("judge"), sampling, 7, indices.__next__, self.turns.append)
        )


@asynccontextmanager
async def asking(*script: dict[str, Any] | web.Response, key: str = "") -> AsyncIterator[Asked]:
    server = Server([*script])
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.complete)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    server.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
    policies = OpenAIPolicies(server.url, "judge-1", key=key)
    try:
        yield Asked(server, policies)
    finally:
        await policies.close()
        await runner.cleanup()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_compatible, "FIRST_WAIT_S", 0.001)


async def test_a_conversation_goes_out_whole_and_its_answer_is_recorded_as_inexact() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    async with asking(
        says(None, "tool_calls", tool_calls=[call], reasoning_content="hm"), says("Rain."), key=KEY
    ) as asked:
        first = (Message.system("Be brief."), Message.user("Weather in Oslo?"))
        action = await asked.policy.act(PolicyInput(first, (WEATHER,), stop=("END",)))
        assert action.message == Message(
            Role.ASSISTANT, tool_calls=(ToolCall("c1", "weather", {"city": "Oslo"}),), reasoning="hm"
        )
        assert (action.finish, action.turn, action.prompt_tokens, action.output_tokens) == (Finish.STOP, 0, 11, 5)
        second = (*first, action.message, Message.tool("rain", "c1"))
        await asked.policy.act(PolicyInput(second, (WEATHER,)))
    body, later = asked.server.bodies
    assert asked.server.keys == [f"Bearer {KEY}"] * 2
    assert (body["model"], body["temperature"], body["max_tokens"], body["stop"]) == ("judge-1", 0.5, 40, ["END"])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather in Oslo?"},
    ]
    assert body["tools"][0]["function"]["name"] == "weather"
    sent = later["messages"][2]["tool_calls"][0]
    assert (sent["id"], json.loads(sent["function"]["arguments"])) == ("c1", {"city": "Oslo"})
    assert later["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "rain"}
    assert [(turn.index, turn.parent, len(turn.messages)) for turn in asked.turns] == [(0, None, 2), (1, 0, 1)]
    for turn in asked.turns:
        assert (turn.logprob_kind, len(turn.output_ids), turn.spans) == ("inexact", 0, ())
        assert turn.sampling.seed is not None
    assert body["seed"] == (asked.turns[0].sampling.seed or 0) & 0x7FFFFFFF != later["seed"]


async def test_another_conversation_begins_a_branch_for_the_callers_reason() -> None:
    async with asking(says(), says()) as asked:
        await asked.policy.act(PolicyInput((Message.user("A"),)))
        await asked.policy.act(PolicyInput((Message.user("B"),), fork=Fork.SIDE_CALL))
    assert [(turn.parent, turn.fork) for turn in asked.turns] == [(None, Fork.NONE), (None, Fork.SIDE_CALL)]


async def test_pictures_lie_where_they_were_and_those_of_tools_follow_them() -> None:
    user = Message(Role.USER, "look: here", images=(Image.of(PNG, at=5),))
    shown = Message(Role.TOOL, "shot", tool_call_id="c1", images=(Image.of(PNG),))
    async with asking(says()) as asked:
        await asked.policy.act(PolicyInput((user, Message.assistant("", (ToolCall("c1", "shoot"),)), shown, shown)))
    messages = asked.server.bodies[0]["messages"]
    assert [part["type"] for part in messages[0]["content"]] == ["text", "image_url", "text"]
    assert messages[0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert len(messages[4]["content"]) == 2


@pytest.mark.parametrize("arguments", ["{not json", "[1]"])
async def test_a_malformed_call_is_an_error_that_the_model_reads(arguments: str) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    async with asking(says(None, tool_calls=[call, call])) as asked:
        first, second = (await asked.policy.act(PolicyInput((Message.user("?"),)))).message.tool_calls
    assert "no JSON" in first.error
    assert first.arguments == {}
    assert first.id != second.id


async def test_what_may_pass_is_tried_again_and_what_may_not_is_not() -> None:
    async with asking(refusal(500, "oops"), refusal(429, "slow down"), says("Fine.")) as asked:
        assert (await asked.policy.act(PolicyInput((Message.user("?"),)))).message.content == "Fine."
    assert len(asked.server.bodies) == 3
    async with asking(refusal(400, "no such model")) as asked:
        with pytest.raises(EngineFault, match="no such model") as caught:
            await asked.policy.act(PolicyInput((Message.user("?"),)))
        assert not caught.value.retryable
        assert not asked.turns


async def test_a_server_that_never_answers_well_is_a_retryable_fault_in_the_end() -> None:
    async with asking(*[refusal(503, "busy") for _ in range(4)], web.Response(text="<html>")) as asked:
        with pytest.raises(EngineFault, match="can't be read") as caught:
            await asked.policy.act(PolicyInput((Message.user("?"),)))
        assert caught.value.retryable
        assert len(asked.server.bodies) == 5


async def test_an_overflow_is_a_truncation() -> None:
    async with asking(refusal(400, "This model's maximum context length is 8192 tokens")) as asked:
        with pytest.raises(Truncated) as caught:
            await asked.policy.act(PolicyInput((Message.user("?"),)))
    assert caught.value.reason == "context"


@pytest.mark.parametrize("answer", [says(finish="content_filter"), {"choices": []}])
async def test_an_answer_that_is_none_is_a_fault(answer: dict[str, Any]) -> None:
    async with asking(answer) as asked:
        with pytest.raises(EngineFault, match=r"content_filter|no choices"):
            await asked.policy.act(PolicyInput((Message.user("?"),)))
        assert not asked.turns


async def test_a_length_is_a_length_and_a_listener_hears_the_whole() -> None:
    class Ear:
        hears = True
        heard: list[Heard]

        def __init__(self) -> None:
            self.heard = []

        def hear(self, heard: Heard) -> None:
            self.heard.append(heard)

        def read(self, turn: object, tokenizer: object) -> None:
            raise AssertionError("there are no ids")

    ear = Ear()
    async with asking(says("Hello", "length")) as asked:
        assert (await asked.policy.act(PolicyInput((Message.user("?"),), listener=ear))).finish is Finish.LENGTH
    assert ear.heard == [Heard("Hello")]


async def test_a_key_that_the_server_repeats_is_not_in_the_error() -> None:
    async with asking(refusal(401, f"Incorrect API key provided: {KEY}"), key=KEY) as asked:
        with pytest.raises(EngineFault, match=r"provided: \[key\]") as caught:
            await asked.policy.act(PolicyInput((Message.user("?"),)))
    assert KEY not in repr(caught.value)
    assert caught.value.__cause__ is None


async def test_calls_may_run_side_by_side() -> None:
    async with asking(*[says(str(number)) for number in range(10)]) as asked, anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(asked.policy.act, PolicyInput((Message.user(str(number)),)))
    assert sorted(turn.index for turn in asked.turns) == list(range(10))


def test_load_takes_the_key_of_the_host_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "general")
    options = EngineOptions(url="https://models.example.com/v1", model="m")
    assert load(options)._server._key == "general"
    monkeypatch.setenv("ENVHUB_KEY_MODELS_EXAMPLE_COM", "of the host")
    assert load(options)._server._key == "of the host"
    assert load(EngineOptions(url="https://api.openai.com/v1", model="m")).length_field == "max_completion_tokens"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions(), r"url is ''"),
        (EngineOptions(url="ftp://x/v1", model="m"), "url is 'ftp"),
        (EngineOptions(url="https://me:sk-1@x/v1", model="m"), "ENVHUB_KEY_X"),
        (EngineOptions(url="https://x/v1?key=sk-1", model="m"), "ENVHUB_KEY_X"),
        (EngineOptions(url="https://x/v1"), "no model is named"),
    ],
)
def test_load_says_what_cannot_work(options: EngineOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load(options)
    assert "sk-1" not in str(caught.value)
