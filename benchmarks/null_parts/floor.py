"""The floor: bare coroutines that wait as long and keep the same arrays."""

import asyncio

import anyio
import numpy as np

from benchmarks.null_parts.load import OUTPUT, PROMPT, K, Load, paced
from benchmarks.null_parts.meter import Cost, Meter


async def play_floor(load: Load) -> Cost:
    live = ended = 0

    async def episode() -> None:
        nonlocal live, ended
        live += 1
        turns = []
        for _ in range(load.turns // load.rollouts):
            await asyncio.sleep(load.latency_s)
            turns.append((np.zeros(PROMPT + OUTPUT, np.int32), np.zeros(OUTPUT, np.float32)))
        live, ended = live - 1, ended + 1

    async def start() -> None:
        for _ in range(K):
            episodes.start_soon(episode)

    meter = Meter(lambda: live)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meter.sample)
        async with anyio.create_task_group() as episodes:
            await paced(load, start)
        tasks.cancel_scope.cancel()
    return meter.cost(load.rollouts - ended, PROMPT)
