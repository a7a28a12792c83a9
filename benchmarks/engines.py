"""What sampling costs: the embedded engine under 16 rollouts that share a prompt prefix, alone and beside a busy core.

The rollouts ask together, each samples N tokens at temperature 1, and the prefix is computed once: the time counts from
the first question to the last token. The floor is a decoding step's bare matrix products on as many rows, over the same
weights with numpy's own threads, and nothing else: no attention, no sampling, no prefill. A stall is the longest time
that any rollout waited for its next token, but for its first.

    python -m benchmarks.engines [--quick] [--threads N]
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import anyio
import numpy as np

from envhub.contracts.engine import EngineOptions, EngineRequest, Model
from envhub.contracts.turn import Ids, Sampling
from envhub.engines.embedded import default_weights, load
from envhub.engines.in_process.gguf_weights import Floats, LlamaWeights, read_weights
from envhub.tokens.gguf_tokenizer import open_gguf

ROLLOUTS = 16
PREFIX_TOKENS, OWN_TOKENS = 192, 16
IDLE_GOAL, BUSY_GOAL, STALL_GOAL_S = 150.0, 0.4, 1.0
Figure = dict[str, object]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a batch of rollouts took."""

    tokens_per_s: float
    cpu_ms_per_token: float
    stall_s: float


def prompts() -> list[Ids]:
    random = np.random.default_rng(0)
    prefix = random.integers(100, 40_000, PREFIX_TOKENS)
    return [
        np.concatenate([prefix, random.integers(100, 40_000, OWN_TOKENS)]).astype(np.int32) for _ in range(ROLLOUTS)
    ]


async def sample(model: Model, tokens: int) -> Sampled:
    """All rollouts at once."""
    stalls: list[float] = []

    async def roll(seed: int, prompt: Ids) -> None:
        request = EngineRequest(f"rollout-{seed}", prompt, Sampling(max_tokens=tokens, seed=seed), frozenset())
        arrived = []
        async with aclosing(model.engine.generate(request)) as chunks:
            async for _ in chunks:
                arrived.append(time.perf_counter())
        stalls.extend(np.diff(arrived).tolist())

    began, cpu = time.perf_counter(), time.process_time()
    async with anyio.create_task_group() as tasks:
        for seed, prompt in enumerate(prompts()):
            tasks.start_soon(roll, seed, prompt)
    total = ROLLOUTS * tokens
    took = time.perf_counter() - began
    return Sampled(total / took, (time.process_time() - cpu) / total * 1e3, max(stalls))


@contextmanager
def busy_core() -> Iterator[None]:
    """One process burns a core within."""
    process = get_context("spawn").Process(target=_burn, daemon=True)
    process.start()
    time.sleep(1.0)  # it imports this module first
    try:
        yield
    finally:
        process.kill()
        process.join()


def _burn() -> None:
    while True:
        pass


def bare_step(weights: LlamaWeights) -> float:
    """Seconds of a step's products, with numpy's threads."""
    rows: dict[int, Floats] = {}
    layers = [
        matrix for layer in weights.layers for matrix in (layer.qkv, layer.attention_output, layer.gate_up, layer.down)
    ]
    began = time.perf_counter()
    for matrix in [*layers, weights.output]:
        x = rows.setdefault(matrix.shape[1], np.ones((ROLLOUTS, matrix.shape[1]), np.float32))
        x @ matrix.T
    return time.perf_counter() - began


async def measure(threads: int, tokens: int) -> list[Figure]:
    path = Path(default_weights())
    weights = read_weights(open_gguf(path))
    print("floor", file=sys.stderr)
    floor = ROLLOUTS / median(bare_step(weights) for _ in range(12))
    model = load(EngineOptions(weights=str(path), threads=threads, max_batch=ROLLOUTS))
    print("16 rollouts", file=sys.stderr)
    alone = await sample(model, tokens)
    print("16 rollouts beside a busy core", file=sys.stderr)
    with busy_core():
        busy = await sample(model, tokens)
    await model.engine.close()
    share = busy.tokens_per_s / alone.tokens_per_s
    stall = max(alone.stall_s, busy.stall_s)
    return [
        figure(
            "embedded_16_rollouts",
            alone.tokens_per_s,
            "tokens/s",
            ">= 150 on 2 idle cores",
            alone.tokens_per_s >= IDLE_GOAL,
        )
        | {"floor": round(floor, 1), "ratio": round(alone.tokens_per_s / floor, 2)},
        figure(
            "embedded_cpu_a_token",
            alone.cpu_ms_per_token,
            "ms",
            "<= 13.3: 150 tokens/s of 2 cores",
            alone.cpu_ms_per_token <= 2e3 / IDLE_GOAL,
        ),
        figure("embedded_beside_a_busy_core", share, "of alone", ">= 0.4", share >= BUSY_GOAL),
        figure("embedded_longest_stall", stall, "s", "<= 1", stall <= STALL_GOAL_S),
    ]


def figure(name: str, value: float, unit: str, goal: str, ok: bool) -> Figure:
    return {"name": name, "value": round(value, 2), "unit": unit, "goal": goal, "ok": ok}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="32 tokens a rollout in place of 128: under 45 s")
    parser.add_argument("--threads", type=int, default=0, help="of the engine (default: its own)")
    arguments = parser.parse_args()
    figures = anyio.run(measure, arguments.threads, 32 if arguments.quick else 128)
    print(json.dumps({"benchmark": "engines", "machine": machine(), "figures": figures}))


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
