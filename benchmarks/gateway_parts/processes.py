"""The processes that the gateway's benchmark measures or needs: an engine server, the gateway, the recording floor."""

import asyncio
import json
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httptools
import msgspec
import numpy as np
import uvloop
from anyio import to_thread
from anyio.lowlevel import checkpoint

from envhub.contracts.context import Context
from envhub.contracts.engine import Engine, EngineChunk, EngineRequest
from envhub.contracts.environment import Environment, Observation
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.rollout import Limits
from envhub.contracts.turn import Finish, Sampling
from envhub.engines.over_http.served_model import ServedModel
from envhub.engines.vllm import GENERATE, VllmEngine
from envhub.gateway.app import create_app
from envhub.gateway.sessions import Sessions
from envhub.http_server import listen, serve
from envhub.registry import agents
from envhub.rollouts.garbage import rare_collections
from envhub.store.sql_store import open_store
from envhub.testing.runs import open_scripted_run, request

TOKENS = 256  # of every answer
IDS = [97 + at % 26 for at in range(TOKENS)]  # letters, to a tokenizer of bytes
CONTEXT = 1_000_000
LONG = Limits(max_turns=100_000, max_tokens=10**9, deadline_s=3_600)


class Http(asyncio.Protocol):
    """A bare HTTP server: the body of each POST is answered by `answer`, everything else is not found."""

    def __init__(self, answer: Callable[[bytes, Callable[[bytes], None]], None], path: bytes) -> None:
        self._answer = answer
        self._path = path
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]  # so it is
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._url == self._path and self._parser.get_method() == b"POST":
            self._answer(body, self._send)
        else:
            self._write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")

    def _send(self, body: bytes) -> None:
        self._write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)


def run_engine(told: Connection) -> None:
    """A server that gives vLLM's answer of 256 tokens with logprobs, at once and already written."""
    scored = [{"token_id": id, "logprob": -0.25} for id in IDS]
    choice = {"token_ids": IDS, "logprobs": {"content": scored}, "finish_reason": "length"}
    event = f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode()
    _serve(told, lambda body, send: send(event), GENERATE.encode())


def run_floor(told: Connection) -> None:
    """The least that a recording gateway can do: reads the messages, has an answer's ids and logprobs parsed into
    arrays, keeps them, and gives the answer on. What it asks no engine for, it has in hand."""
    content = [{"token": chr(id), "logprob": -0.25} for id in IDS]
    message = {"role": "assistant", "content": bytes(IDS).decode()}
    choice = {"index": 0, "message": message, "token_ids": IDS, "logprobs": {"content": content}}
    body = json.dumps({"choices": [choice], "prompt_token_ids": list(range(512))}).encode()
    trace: list[object] = []
    read_request = msgspec.json.Decoder(_Asked).decode
    read_answer = msgspec.json.Decoder(_Answered).decode

    def answer(asked: bytes, send: Callable[[bytes], None]) -> None:
        messages = read_request(asked).messages
        read = read_answer(body)
        (first,) = read.choices
        logprobs = array("f", [token.logprob for token in first.logprobs.content])
        trace[:] = [
            *trace[-1000:],
            (array("i", read.prompt_token_ids), array("i", first.token_ids), logprobs, messages),
        ]
        send(body)

    _serve(told, answer, b"/v1/chat/completions")


class _Asked(msgspec.Struct):
    messages: list[msgspec.Raw]


class _Token(msgspec.Struct):
    logprob: float


class _Tokens(msgspec.Struct):
    content: list[_Token]


class _Choice(msgspec.Struct):
    token_ids: list[int]
    logprobs: _Tokens


class _Answered(msgspec.Struct):
    choices: list[_Choice]
    prompt_token_ids: list[int]


def _serve(told: Connection, answer: Callable[[bytes, Callable[[bytes], None]], None], path: bytes) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(
            lambda: Http(answer, path), "127.0.0.1", 0, backlog=4096
        )
        told.send(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await server.serve_forever()

    uvloop.run(main())


class OneByOne:
    """An engine in the gateway's process that gives its tokens one by one, as fast as they are taken."""

    context_tokens = CONTEXT
    ids = np.array(IDS, np.int32)
    logprobs = np.full(TOKENS, -0.25, np.float32)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        for at in range(TOKENS):
            await checkpoint()
            finish = Finish.LENGTH if at == TOKENS - 1 else None
            yield EngineChunk(self.ids[at : at + 1], self.logprobs[at : at + 1], PolicyVersion(0), finish)

    async def close(self) -> None:
        """Nothing runs."""


class Held:
    """An agent whose rollout lasts, and whose key anybody may use who has it."""

    def __init__(self, keys: list[str], ended: anyio.Event) -> None:
        self._keys = keys
        self._ended = ended

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        async with ctx.endpoint() as endpoint:
            self._keys.append(endpoint.key)
            await self._ended.wait()


def run_gateway(told: Connection, engine_url: str, rollouts: int) -> None:
    """The gateway over a run that writes to SQLite, with so many rollouts that wait for calls. Ends when told."""

    async def main() -> None:
        engine: Engine = OneByOne()
        if engine_url:
            engine = VllmEngine(ServedModel(engine_url, "", "bench", CONTEXT, "", False))
        with rare_collections():
            async with _open(engine, rollouts) as (url, keys):
                told.send((url, keys))
                await to_thread.run_sync(told.recv)

    uvloop.run(main())


@asynccontextmanager
async def _open(engine: Engine, rollouts: int) -> AsyncIterator[tuple[str, list[str]]]:
    keys: list[str] = []
    ended = anyio.Event()
    agents.register("held", lambda: Held(keys, ended))
    with TemporaryDirectory() as folder, listen() as listener:
        sessions = Sessions(listener.url)
        store = await open_store(str(Path(folder, "bench.db")))
        async with (
            serve(create_app(sessions), listener),
            open_scripted_run(
                str, store=store, endpoints=sessions, max_running=rollouts, around=lambda _: engine
            ) as run,
        ):
            sampling = Sampling(max_tokens=TOKENS)
            await run.manager.start(
                request("envhub/arithmetic-v0", k=rollouts, agent="held", sampling=sampling, limits=LONG)
            )
            while len(keys) < rollouts:  # noqa: ASYNC110 (nobody else waits for them all)
                await anyio.sleep(0.01)
            yield listener.url, keys
            ended.set()
