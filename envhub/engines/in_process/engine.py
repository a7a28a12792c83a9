"""InProcessEngine: continuous batching over a decoder in this process."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from itertools import groupby
from typing import Generic

import anyio
import numpy as np

from envhub.contracts.engine import EngineChunk, EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import SamplingMask
from envhub.contracts.turn import Finish
from envhub.engines.in_process.decoder import CacheT, Decoder
from envhub.engines.in_process.scheduler import Delivered, Generation, Scheduler, Token
from envhub.engines.in_process.worker import Worker
from envhub.engines.request_check import check_request
from envhub.errors import EngineFault

CLOSED = "the engine is closed; open another one"


class InProcessEngine(Generic[CacheT]):
    """Generations join and leave between the steps of one thread. Greedy sampling records log probability 0: its choice
    is certain."""

    def __init__(self, decoder: Decoder[CacheT], vocabulary: int, max_batch: int) -> None:
        self.context_tokens = decoder.context_tokens
        self._decoder = decoder
        self._vocabulary = vocabulary
        self._scheduler = Scheduler(decoder, max_batch)
        self._worker = Worker(self._scheduler)

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        check_request(request, self.context_tokens, self._vocabulary, gives_masks=True)
        stream = _Stream(request)
        self._worker.submit(stream.generation)
        try:
            finish = None
            while finish is None:
                for chunk in _chunks(await stream.take(), self._decoder.policy_version, request.routed_from):
                    finish = chunk.finish
                    yield chunk
        finally:
            stream.generation.cancelled = True

    async def close(self) -> None:
        self._worker.end(CLOSED)
        with anyio.CancelScope(shield=True):  # at most a step
            await anyio.to_thread.run_sync(self._worker.join)


def _chunks(arrived: Sequence[Token | Finish], newest: PolicyVersion, routed_from: int) -> Iterator[EngineChunk]:
    """One for each run of tokens of one version, and one for a finish without a token."""
    tokens = [item for item in arrived if isinstance(item, Token)]
    for version, run in groupby(tokens, lambda token: token.policy_version):
        yield _chunk(list(run), version, routed_from)
    if len(tokens) < len(arrived):
        yield EngineChunk(np.empty(0, np.int32), np.empty(0, np.float32), newest, Finish.ABORT)


def _chunk(tokens: Sequence[Token], version: PolicyVersion, routed_from: int) -> EngineChunk:
    allowed = [token.allowed for token in tokens if token.allowed is not None]
    last = tokens[-1]
    return EngineChunk(
        np.array([token.id for token in tokens], np.int32),
        np.array([token.logprob for token in tokens], np.float32),
        version,
        last.finish,
        SamplingMask.of(allowed) if allowed else None,
        None if last.experts is None else last.experts[routed_from:],
    )


class _Stream:
    """What the worker's thread hands to the coroutine of one generation."""

    def __init__(self, request: EngineRequest) -> None:
        self.generation = Generation(request, self._deliver)
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Delivered] = []
        self._ready = anyio.Event()

    async def take(self) -> list[Token | Finish]:
        """All since the last call, at least one.

        Raises:
            EngineFault: the generation ended by it.
        """
        await self._ready.wait()
        self._ready = anyio.Event()
        arrived, self._arrived = self._arrived, []
        for item in arrived:
            if isinstance(item, EngineFault):
                raise item
        return [item for item in arrived if not isinstance(item, EngineFault)]

    def _deliver(self, item: Delivered) -> None:
        try:
            self._loop.call_soon_threadsafe(self._receive, item)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.generation.cancelled = True

    def _receive(self, item: Delivered) -> None:
        self._arrived.append(item)
        self._ready.set()
