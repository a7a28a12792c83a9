"""The null load: episodes of 4 turns, and a model that only waits."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from envhub.contracts.engine import EngineChunk, EngineRequest, Model
from envhub.contracts.environment import Environment
from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyVersion
from envhub.contracts.rollout import EnvironmentRef
from envhub.contracts.score import JudgeInput
from envhub.contracts.task import Task
from envhub.contracts.turn import Finish
from envhub.environments.pool import EnvironmentPool
from envhub.environments.tool_environment import ToolEnvironment
from envhub.registry import environment
from envhub.rollouts.admission import Slots
from envhub.rollouts.platform import Platform, ServedPolicy
from envhub.rollouts.recorder import Recording
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from envhub.tokens.chat import ChatRenderer
from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset

TURNS, OUTPUT, PROMPT = 4, 32, 64
LOGPROBS = np.full(OUTPUT, -0.5, np.float32)
K = 10
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
GOLD = "42"
ALONE, PARENT = EnvironmentId("bench/null-v0"), EnvironmentId("bench/parent-v0")
QUESTION = "question " + "q" * 22  # with the template's own tokens 64 ids a turn, like the result below
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool.function.name }}{% endfor %}<|im_end|>\n"
    "{% endif %}" + CHATML_TEMPLATE
)


@dataclass(frozen=True, slots=True)
class Load:
    rollouts: int
    latency_s: float
    ramp_s: float
    children: bool = False  # one for each rollout
    processes: int = 0  # that run them; 0: the one that records

    @property
    def turns(self) -> int:
        """Of all episodes."""
        return self.rollouts * TURNS * (2 if self.children else 1)

    @property
    def ideal_s(self) -> float:
        return self.ramp_s + self.turns / self.rollouts * self.latency_s


SEEN = count()


class Look(Toolset):
    @tool
    async def look(self) -> str:
        """Look."""
        return f"{next(SEEN):044}"


class Ask(Toolset):
    def __init__(self) -> None:
        self._asked = False

    @tool(timeout_s=600.0)  # a child takes 4 latencies, and longer where the machine has no core left
    async def look(self) -> str:
        """Let another rollout look first."""
        if not self._asked:
            self._asked = True
            child = await self.ctx.rollout(replace(self.ctx.request, environment=EnvironmentRef(ALONE)))
            assert child.reward == 1.0, child.failure
        return f"{next(SEEN):044}"


def correct(input: JudgeInput) -> float:
    return float(input.response.strip() == GOLD)


@environment(ALONE, tasks=[Task.ask(QUESTION, GOLD)])
def alone() -> Environment:
    return ToolEnvironment(Look, correct)


@environment(PARENT, tasks=[Task.ask(QUESTION, GOLD)])
def parent() -> Environment:
    return ToolEnvironment(Ask, correct)


class PieceTokenizer(ByteTokenizer):
    """Bytes, and the tool call as a single id, so that an answer has as many tokens as the load asks for."""

    CALL_ID = 1_000

    def decode(self, ids: Sequence[int]) -> str:
        if ids[0] == self.CALL_ID:
            return CALL + super().decode(ids[1:])
        return super().decode(ids)


class NullEngine:
    """Waits, then gives 32 tokens: a call in the first three turns of an episode, the answer in the last."""

    context_tokens = 1 << 20

    def __init__(self, tokenizer: ByteTokenizer, load: Load) -> None:
        stop = next(iter(tokenizer.stop_ids))
        self._latency_s = load.latency_s
        self._call = self._answer([PieceTokenizer.CALL_ID], stop)
        self._final = self._answer(tokenizer.encode(GOLD), stop)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        await asyncio.sleep(self._latency_s)
        turn = int(request.request_id.split("/")[1])
        ids = self._final if turn == TURNS - 1 else self._call
        yield EngineChunk(ids.copy(), LOGPROBS.copy(), PolicyVersion(0), Finish.STOP)

    async def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _answer(ids: list[int], stop: int) -> np.ndarray:
        return np.array([*ids, *[ord(" ")] * (OUTPUT - len(ids) - 1), stop], np.int32)


def null_platform(load: Load, recorder: Recording, limit: int) -> Platform:
    tokenizer = PieceTokenizer()
    model = Model("null", NullEngine(tokenizer, load), tokenizer, TEMPLATE)
    return Platform({TRAINED: ServedPolicy(model, ChatRenderer.of(model))}, EnvironmentPool(), Slots(limit), recorder)


async def paced(load: Load, start: Callable[[], Awaitable[object]]) -> None:
    """Starts K episodes at a time, evenly over the ramp."""
    began = time.perf_counter()
    for number in range(load.rollouts // K):
        await start()
        due = began + load.ramp_s * (number + 1) * K / load.rollouts
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
