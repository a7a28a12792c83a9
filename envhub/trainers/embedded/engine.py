"""TrainerEngine: a trainer's own generate function as an Engine."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from envhub.contracts.engine import Engine, EngineChunk, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish
from envhub.engines.request_check import check_request
from envhub.errors import Boundary, EngineFault, boundary
from envhub.tokens.hf_tokenizer import open_directory

CLOSED = "the trainer's run is closed; open another one"


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """What a trainer's generate function gave for one prompt."""

    ids: Sequence[int]
    logprobs: Sequence[float] | None  # nats, one an id; None: the trainer was not told to keep them
    policy_version: PolicyVersion = PolicyVersion(0)
    aborted: bool = False  # the trainer ended it early


Generate: TypeAlias = Callable[[EngineRequest], Coroutine[Any, Any, Sampled]]


class TrainerEngine:
    """Samples with what the trainer gave last, on the loop where it gave it. An answer comes whole; where nobody waits
    for it any more, the trainer's coroutine is cancelled."""

    def __init__(self, context_tokens: int) -> None:
        self.context_tokens = context_tokens
        self._source: tuple[Generate, asyncio.AbstractEventLoop] | None = None

    def sample_with(self, generate: Generate) -> None:
        """From now on that samples, on the loop that runs here."""
        self._source = (generate, asyncio.get_running_loop())

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        check_request(request, self.context_tokens)
        if self._source is None:
            raise EngineFault(CLOSED, retryable=False)
        generate, loop = self._source
        with boundary(Boundary.ENGINE, retryable=True):
            sampled = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(generate(request), loop))
        yield _chunk(request, sampled, self.context_tokens)

    async def close(self) -> None:
        self._source = None


def _chunk(request: EngineRequest, sampled: Sampled, context_tokens: int) -> EngineChunk:
    """
    Raises:
        EngineFault: not retryable, there is not one log probability for each id.
    """
    if sampled.logprobs is None or len(sampled.logprobs) != len(sampled.ids):
        given = "none" if sampled.logprobs is None else len(sampled.logprobs)
        rule = "one is needed for each: have the trainer's engine return those of the sampled tokens"
        raise EngineFault(
            f"the trainer gave {len(sampled.ids)} ids and {given} log probabilities; {rule}", retryable=False
        )
    ids, logprobs = np.array(sampled.ids, np.int32), np.array(sampled.logprobs, np.float32)
    return EngineChunk(ids, logprobs, sampled.policy_version, _finish(request, sampled, context_tokens))


def _finish(request: EngineRequest, sampled: Sampled, context_tokens: int) -> Finish:
    if sampled.aborted:
        return Finish.ABORT
    if len(sampled.ids) and sampled.ids[-1] in request.stop_ids:
        return Finish.STOP
    if len(sampled.ids) >= request.sampling.max_tokens:
        return Finish.LENGTH
    return Finish.CONTEXT if len(request.prompt_ids) + len(sampled.ids) >= context_tokens else Finish.STOP


def trainer_model(engine: Engine, tokenizer: Any, name: str) -> Model:
    """The trainer's model: `tokenizer` is of transformers, with the chat template that the trainer would use.

    Raises:
        UsageError: the tokenizer has no tokenizer.json, or no token that ends a message.
    """
    with TemporaryDirectory(prefix="envhub-") as folder:
        tokenizer.save_pretrained(folder)
        files = open_directory(Path(folder))
    return Model(name, engine, files.tokenizer, files.chat_template, template_variables=files.template_variables)
