"""ScriptedEngine: a deterministic engine whose answers a function writes, for tests, documentation and demos."""

import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeAlias

import anyio
import numpy as np
from anyio.lowlevel import checkpoint

from envhub.contracts.engine import EngineChunk, EngineOptions, EngineRequest, Model, Tokenizer
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.messages import Image
from envhub.contracts.turn import Finish, Ids
from envhub.errors import Boundary, EngineFault, UsageError, boundary
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer

CHUNK_TOKENS = 8
LOWEST_LOGPROB = -3.0
WRONG_SHARE = 0.3  # of the demonstration's sums


@dataclass(frozen=True, slots=True)
class ScriptInput:
    """What a script answers: the whole prompt as text, control tokens included, and the request's seed."""

    prompt: str
    seed: int
    images: tuple[Image, ...] = ()  # that the prompt shows, in order


Script: TypeAlias = Callable[[ScriptInput], str]


def load(options: EngineOptions) -> Model:
    """A model without weights that adds the last "a + b" of its prompt, wrongly for 30 % of the seeds.

    Raises:
        UsageError: weights were asked for.
    """
    if options.weights:
        raise UsageError(f"weights are '{options.weights}', but the scripted engine has none; leave them out")
    tokenizer = ByteTokenizer()
    return Model("scripted", ScriptedEngine(add, tokenizer), tokenizer, CHATML_TEMPLATE)


def add(asked: ScriptInput) -> str:
    """The demonstration's script."""
    sums = re.findall(r"(-?\d+)\s*\+\s*(-?\d+)", asked.prompt)
    if not sums:
        return "I can only add."
    wrong = np.random.default_rng(asked.seed).random() < WRONG_SHARE
    return str(sum(map(int, sums[-1])) + wrong)


class ScriptedEngine:
    """Answers with what `script` writes, and with log probabilities that depend on the seed and the position alone.

    A request takes `latency_s`, spread over its chunks. What the script raises fails the request. `policy_version` may
    be set at any time; a chunk carries the one of its moment, unless the request pins one.
    """

    def __init__(
        self,
        script: Script,
        tokenizer: Tokenizer,
        *,
        latency_s: float = 0.0,
        context_tokens: int = 8192,
    ) -> None:
        self.context_tokens = context_tokens
        self.policy_version = PolicyVersion(0)
        self._script = script
        self._tokenizer = tokenizer
        self._latency_s = latency_s
        self._closed = anyio.Event()

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        self._check(request)
        ids, finish = self._answer(request)
        logprobs = LOWEST_LOGPROB * np.random.default_rng(request.sampling.seed).random(len(ids), np.float32)
        starts = range(0, len(ids), CHUNK_TOKENS)
        for start in starts:
            await self._pass(self._latency_s / len(starts))
            part = slice(start, start + CHUNK_TOKENS)
            ended = finish if part.stop >= len(ids) else None
            version = self.policy_version if request.policy_version is None else request.policy_version
            yield EngineChunk(ids[part], logprobs[part], version, ended)

    async def close(self) -> None:
        self._closed.set()

    def _check(self, request: EngineRequest) -> None:
        if len(request.prompt_ids) >= self.context_tokens:
            rule = f"the context holds {self.context_tokens} with the output"
            raise EngineFault(f"the prompt has {len(request.prompt_ids)} tokens; {rule}: shorten it", retryable=False)
        if request.sampling.truncated:
            rule = "a script draws from no distribution: sample with top_p 1, top_k 0 and min_p 0"
            raise EngineFault(f"sampling is {request.sampling}; {rule}", retryable=False)
        if not request.stop_ids:
            raise EngineFault("the request has no stop ids; a script's answer ends with one", retryable=False)

    def _answer(self, request: EngineRequest) -> tuple[Ids, Finish]:
        """What the script writes, up to the first stop id, cut where a limit comes before it."""
        prompt = self._tokenizer.decode(request.prompt_ids.tolist())
        with boundary(Boundary.ENGINE):
            images = tuple(shown.image for shown in request.images)
            text = self._script(ScriptInput(prompt, request.sampling.seed or 0, images))
        written = takewhile(lambda index: index not in request.stop_ids, self._tokenizer.encode(text))
        ids = np.array([*written, min(request.stop_ids)], np.int32)
        room = self.context_tokens - len(request.prompt_ids)
        most = request.sampling.max_tokens
        if len(ids) <= min(room, most):
            return ids, Finish.STOP
        return (ids[:most], Finish.LENGTH) if most <= room else (ids[:room], Finish.CONTEXT)

    async def _pass(self, seconds: float) -> None:
        """Lets time pass, and others run."""
        await checkpoint()
        if seconds:
            with anyio.move_on_after(seconds):
                await self._closed.wait()
        if self._closed.is_set():
            raise EngineFault("the engine is closed; open another one", retryable=False)
