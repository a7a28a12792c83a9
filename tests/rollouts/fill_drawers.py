"""A run that fills drawers; `python -m tests.rollouts.fill_drawers DB` is one in a process that a test may kill."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from envhub.app import Run, Settings, open_run
from envhub.contracts.engine import EngineOptions, Model
from envhub.engines.scripted import ScriptedEngine
from envhub.registry import engines
from envhub.rollouts.job import Job
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from sandboxes.process.backend import ProcessBackend
from tests.rollouts.drawers import ID, answer

JOB = Job((ID,), groups=2, k=2)
ENGINE = "test-drawers"


def load(options: EngineOptions) -> Model:
    """Takes its time, so that a kill meets rollouts in every state."""
    tokenizer = ByteTokenizer()
    return Model(ENGINE, ScriptedEngine(answer, tokenizer, latency_s=0.05), tokenizer, CHATML_TEMPLATE)


if ENGINE not in engines.names():
    engines.register(ENGINE, load)


@asynccontextmanager
async def filling(database: str, *, resume: bool = False, workers: int = 0) -> AsyncIterator[Run]:
    """The run, new or again, with plain processes as its sandboxes."""
    backend = ProcessBackend()
    settings = Settings(
        database,
        "drawers",
        resume,
        engine=ENGINE,
        sandbox="process",
        max_running=6,
        workers=workers,
        modules=(__name__,),
    )
    try:
        async with open_run(settings, None if resume else JOB, backend) as run:
            yield run
    finally:
        with anyio.CancelScope(shield=True):
            await backend.aclose()


async def play(database: str) -> None:
    async with filling(database) as run:
        await run.play()


if __name__ == "__main__":
    anyio.run(play, sys.argv[1])
