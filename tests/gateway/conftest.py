"""A gateway on a loopback port, with a policy that answers as a test says."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from httpx import AsyncClient
from openai import AsyncOpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

from envhub.contracts.context import Endpoint
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.policy import Action, Heard, PolicyInput
from envhub.contracts.score import Score
from envhub.contracts.turn import Sampling
from envhub.errors import UnknownName
from envhub.gateway.app import create_app
from envhub.gateway.sessions import Sessions
from envhub.http_server import listen, serve

ROLLOUT = RolloutId("run-0-0-0")
SAMPLING = Sampling(temperature=0.7, max_tokens=100)


@dataclass
class FakePolicy:
    """Answers from `script`, then by repeating the last message; a closed gate holds calls back."""

    script: list[Action | Exception] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)  # of every answer, before it waits
    inputs: list[PolicyInput] = field(default_factory=list)
    gate: anyio.Event | None = None
    waiting: int = 0
    cancelled: int = 0
    changed: anyio.Event = field(default_factory=anyio.Event)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until calls have come or gone so that `holds`."""
        with anyio.fail_after(10):
            while not holds():
                await self.changed.wait()

    async def act(self, input: PolicyInput) -> Action:
        self.inputs.append(input)
        turn = len(self.inputs) - 1
        for heard in self.heard if input.listener and input.listener.hears else ():
            input.listener.hear(heard)
        if self.gate is not None:
            await self._wait(self.gate)
        if self.script:
            answer = self.script.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return Action(Message.assistant(input.messages[-1].content), turn=turn, prompt_tokens=7, output_tokens=3)

    def count(self, input: PolicyInput) -> int:
        return sum(len(message.content) for message in input.messages)

    async def _wait(self, gate: anyio.Event) -> None:
        self.waiting += 1
        self._tell()
        try:
            await gate.wait()
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()


class FakeRun:
    """Opens rollouts as the composition root will: an external agent whose answer "4" scores 1."""

    def __init__(self, sessions: Sessions, policy: FakePolicy) -> None:
        self.sessions = sessions
        self.policy = policy
        self.prompt = (Message.system("Be brief."), Message.user("2 + 2?"))
        self.asks = True
        self.cancelled = anyio.Event()
        self.ended = anyio.Event()
        self.result: Outcome | None = None
        self.tasks: anyio.abc.TaskGroup | None = None

    rollout_id = ROLLOUT

    async def open(self, environment: str, task: int | str) -> "FakeRun":
        if environment != "demo/sums-v0":
            raise UnknownName.of("environment", environment, ["demo/sums-v0"])
        assert self.tasks is not None
        self.tasks.start_soon(self._run)
        return self

    async def outcome(self) -> Outcome:
        await self.ended.wait()
        assert self.result is not None
        return self.result

    async def cancel(self) -> None:
        self.cancelled.set()

    async def _run(self) -> None:
        if self.asks:
            async with self.sessions.open(ROLLOUT, self.policy, SAMPLING) as endpoint:
                answer = await endpoint.ask(self.prompt)
            score = Score(float(answer == "4"), {"exact": float(answer == "4")})
            self.result = Outcome(ROLLOUT, Status.COMPLETED, score=score, response=answer)
        else:
            self.result = Outcome(ROLLOUT, Status.FAILED)
        self.ended.set()


@dataclass
class Gateway:
    """What a test may touch of a served gateway."""

    url: str
    sessions: Sessions
    policy: FakePolicy
    run: FakeRun
    endpoint: Endpoint
    http: AsyncClient

    @property
    def auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.endpoint.key}"}

    def openai(self, *, key: str = "", retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.endpoint.url, api_key=key or self.endpoint.key, max_retries=retries)


class Switch:
    """One server for many tests: each puts an app of its own behind it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.app is not None
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def switch(anyio_backend) -> AsyncIterator[Switch]:
    with listen() as listener:
        switch = Switch(listener.url)
        async with serve(switch, listener):
            yield switch


@pytest.fixture
async def gateway(switch) -> AsyncIterator[Gateway]:
    policy = FakePolicy()
    sessions = Sessions(switch.url, patience_s=0.05)
    run = FakeRun(sessions, policy)
    switch.app = create_app(sessions, open_rollout=run.open, keep_alive_s=0.05, clock=lambda: 1_700_000_000.0)
    async with (
        anyio.create_task_group() as tasks,
        sessions.open(RolloutId("run-1-0-0"), policy, SAMPLING) as endpoint,
        AsyncClient(base_url=switch.url, timeout=20) as http,
    ):
        run.tasks = tasks
        yield Gateway(switch.url, sessions, policy, run, endpoint, http)
        tasks.cancel_scope.cancel()
