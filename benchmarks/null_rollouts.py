"""What a rollout costs when the model costs nothing: N live episodes of 4 turns against an engine that only waits.

An episode: 4 turns, each answered after L seconds with 32 tokens over a prompt that grows by 64; 3 tool calls; one
judge; everything rendered, recorded to SQLite and scored. No sandbox. The floor, in a process of its own in the same
run: bare coroutines that wait as long and keep the same arrays.

    python benchmarks/null_rollouts.py [--quick] [--rollouts N] [--latency L] [--ramp R]
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import numpy as np
import psutil

from envhub.app import LOOP
from envhub.contracts.engine import EngineChunk, EngineRequest, Model
from envhub.contracts.environment import Environment
from envhub.contracts.events import RunStarted
from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyVersion, RunId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.score import JudgeInput
from envhub.contracts.task import Task
from envhub.contracts.turn import Finish
from envhub.environments.pool import EnvironmentPool
from envhub.environments.tool_environment import ToolEnvironment
from envhub.registry import environment
from envhub.rollouts.admission import Slots
from envhub.rollouts.deliveries import OwnConsumer
from envhub.rollouts.manager import Origin, open_manager
from envhub.rollouts.platform import Platform, ServedPolicy
from envhub.rollouts.recorder import open_recorder
from envhub.store.sql_store import open_store
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from envhub.tokens.chat import ChatRenderer
from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset

TURNS, OUTPUT, PROMPT = 4, 32, 64
CALL = '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>'
GOLD = "42"
QUESTION = "question " + "q" * 18  # with the template's own tokens 64 ids a turn, like the result below
RESULT = "r" * 44
TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool.function.name }}{% endfor %}<|im_end|>\n"
    "{% endif %}" + CHATML_TEMPLATE
)


@dataclass(frozen=True, slots=True)
class Load:
    rollouts: int
    latency_s: float
    ramp_s: float

    @property
    def ideal_s(self) -> float:
        return self.ramp_s + TURNS * self.latency_s


@dataclass(frozen=True, slots=True)
class Cost:
    wall_s: float
    cpu_s: float
    kib_per_live: float
    lag_p99_ms: float
    failures: int
    prompt_ids: float  # a turn, new


class Look(Toolset):
    @tool
    async def look(self) -> str:
        """Look."""
        return RESULT


def correct(input: JudgeInput) -> float:
    return float(input.response.strip() == GOLD)


@environment("bench/null-v0", tasks=[Task.ask(QUESTION, GOLD)])
def null() -> Environment:
    return ToolEnvironment(Look, correct)


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
        await anyio.sleep(self._latency_s)
        turn = int(request.request_id.split("/")[1])
        yield self._final if turn == TURNS - 1 else self._call

    async def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def _answer(ids: list[int], stop: int) -> EngineChunk:
        padded = np.array([*ids, *[ord(" ")] * (OUTPUT - len(ids) - 1), stop], np.int32)
        return EngineChunk(padded, np.full(OUTPUT, -0.5, np.float32), PolicyVersion(0), Finish.STOP)


class Meter:
    """Loop lag and memory, sampled while the load runs."""

    def __init__(self) -> None:
        self.lags_s: list[float] = []
        self.peak_rss = 0
        self._process = psutil.Process()
        self.idle_rss = self._process.memory_info().rss

    async def sample(self) -> None:
        while True:
            due = time.perf_counter() + 0.02
            await asyncio.sleep(0.02)
            self.lags_s.append(time.perf_counter() - due)
            self.peak_rss = max(self.peak_rss, self._process.memory_info().rss)

    def cost(self, load: Load, wall_s: float, cpu_s: float, failures: int, prompt_ids: float) -> Cost:
        kib = (self.peak_rss - self.idle_rss) / 1024 / load.rollouts
        lag_ms = float(np.percentile(self.lags_s, 99)) * 1000 if self.lags_s else 0.0
        return Cost(wall_s, cpu_s, kib, lag_ms, failures, prompt_ids)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def play_envhub(load: Load) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            store = await open_store(str(Path(folder) / "null.db"))
            stack.push_async_callback(store.close)
            await store.append([RunStarted(RunId("null"), time.time(), 0, {})])
            recorder = await stack.enter_async_context(open_recorder(store))
            tokenizer = PieceTokenizer()
            model = Model("null", NullEngine(tokenizer, load), tokenizer, TEMPLATE)
            served = ServedPolicy(model, ChatRenderer.of(model))
            platform = Platform({TRAINED: served}, EnvironmentPool(), Slots(load.rollouts), recorder)
            request = GroupRequest(
                RolloutRequest(EnvironmentRef(EnvironmentId("bench/null-v0")), Task.ask(QUESTION, GOLD)),
                k=min(10, load.rollouts),
            )
            meter = Meter()
            started, used = time.perf_counter(), cpu_s()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(meter.sample)
                origin, outlet = Origin(RunId("null"), 0), OwnConsumer(recorder)
                async with open_manager(origin, platform, outlet, max_groups=load.rollouts) as manager:
                    groups = []
                    for number in range(load.rollouts // request.k):
                        groups.append(await manager.start(request))
                        ahead = load.ramp_s * (number + 1) * request.k / load.rollouts
                        await anyio.sleep(max(0.0, ahead - (time.perf_counter() - started)))
                tasks.cancel_scope.cancel()
            outcomes = [outcome for group in groups for outcome in group.outcomes.values()]
            failures = load.rollouts - sum(outcome.reward == 1.0 for outcome in outcomes)
            turns = sum(outcome.usage.turns for outcome in outcomes)
            prompt_ids = sum(outcome.usage.prompt_tokens for outcome in outcomes) / max(turns, 1)
            return meter.cost(load, time.perf_counter() - started, cpu_s() - used, failures, prompt_ids)


async def play_floor(load: Load) -> Cost:
    kept: list[list[tuple[np.ndarray, np.ndarray]]] = []

    async def episode() -> None:
        turns = []
        for _ in range(TURNS):
            await asyncio.sleep(load.latency_s)
            turns.append((np.zeros(PROMPT + OUTPUT, np.int32), np.zeros(OUTPUT, np.float32)))
        kept.append(turns)

    meter = Meter()
    started, used = time.perf_counter(), cpu_s()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meter.sample)
        async with anyio.create_task_group() as episodes:
            for number in range(load.rollouts):
                episodes.start_soon(episode)
                ahead = load.ramp_s * (number + 1) / load.rollouts
                if number % 10 == 9:
                    await anyio.sleep(max(0.0, ahead - (time.perf_counter() - started)))
        tasks.cancel_scope.cancel()
    return meter.cost(load, time.perf_counter() - started, cpu_s() - used, load.rollouts - len(kept), PROMPT)


PARTS: Mapping[str, Callable] = {"floor": play_floor, "envhub": play_envhub}


def measured(part: str, load: Load) -> Cost:
    """The cost of one part, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (part, load))


def _measure(part: str, load: Load) -> Cost:
    gc.collect()
    return anyio.run(PARTS[part], load, backend_options=LOOP)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="500 rollouts: under 45 s")
    parser.add_argument("--rollouts", type=int, default=2_000)
    parser.add_argument("--latency", type=float, default=1.0, help="L, seconds a turn")
    parser.add_argument("--ramp", type=float, default=2.0, help="R, seconds over which episodes start")
    given = parser.parse_args()
    load = Load(500 if given.quick else given.rollouts, given.latency, given.ramp)
    print(f"{load.rollouts} rollouts, ramp {load.ramp_s:g} s, ideal {load.ideal_s:g} s", file=sys.stderr)
    costs = {}
    for part in PARTS:
        costs[part] = measured(part, load)
        print(f"{part:7} {asdict(costs[part])}", file=sys.stderr)
    print(json.dumps({"benchmark": "null_rollouts", "machine": machine(), "figures": figures(load, costs)}))


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {LOOP}"


def figures(load: Load, costs: Mapping[str, Cost]) -> list[dict[str, object]]:
    own, floor = costs["envhub"], costs["floor"]
    turns = load.rollouts * TURNS
    per_turn, floor_per_turn = own.cpu_s / turns * 1e6, floor.cpu_s / turns * 1e6
    stretch = own.wall_s / load.ideal_s
    return [
        figure("cpu_us_per_turn", per_turn, "us", floor_per_turn, "<= 100", per_turn <= 100),
        figure("wall_over_ideal", stretch, "ratio", floor.wall_s / load.ideal_s, "<= 1.25", stretch <= 1.25),
        figure("kib_per_live_episode", own.kib_per_live, "KiB", floor.kib_per_live, "<= 20 + tokens", None),
        figure("loop_lag_p99", own.lag_p99_ms, "ms", floor.lag_p99_ms, "<= 250", own.lag_p99_ms <= 250),
        figure("failures", own.failures, "rollouts", floor.failures, "0", own.failures == 0),
        figure("prompt_ids_per_turn", own.prompt_ids, "ids", PROMPT, f"{PROMPT}", None),
    ]


def figure(name: str, value: float, unit: str, floor: float, goal: str, ok: bool | None) -> dict[str, object]:
    ratio = round(value / floor, 2) if floor else None
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "floor": round(floor, 2),
        "ratio": ratio,
        "goal": goal,
        "ok": ok,
    }


if __name__ == "__main__":
    main()
