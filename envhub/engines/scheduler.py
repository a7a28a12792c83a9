"""Scheduler: generations that decode together, one step at a time; new ones join and ended ones leave between steps.

Invariants: at most `max_batch` generations run, the others wait in order of arrival. Every generation that was added
ends exactly once: with a token that carries its finish, by being cancelled, or with the fault given to `fail`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from envhub.contracts.engine import EngineRequest
from envhub.contracts.turn import Finish, Ids
from envhub.engines.gguf_weights import Floats
from envhub.engines.kv_cache import KVCache, PrefixCache, shared_prefix
from envhub.engines.llama import Llama, Segment
from envhub.engines.sampling import Sampler
from envhub.errors import EngineFault

# Prompt tokens a step takes beside the running generations: they wait some 0.3 s for it on two cores. Twice as many
# prefill a tenth faster.
PREFILL_TOKENS = 128
WORTH_WAITING = 8  # tokens: a prompt that shares fewer with a running one is computed at once
PREFIX_BYTES = 512 << 20  # of ended sequences: some 11,000 tokens of SmolLM2-135M


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token; the last of its generation carries why it ended."""

    id: int
    logprob: float
    finish: Finish | None


class Generation:
    """One request on its way. `deliver` gets its tokens, and a fault if it ends by one, in the scheduler's thread."""

    def __init__(self, request: EngineRequest, deliver: Callable[[Token | EngineFault], None]) -> None:
        self.request = request
        self.deliver = deliver
        self.cancelled = False  # set from any thread: it ends before the next step
        self.sampler = Sampler(request.sampling)
        self.pending: Ids = request.prompt_ids  # what is still to compute: of its prompt, then its newest token
        self.sampled = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    generation: Generation
    cache: KVCache

    def advance(self, segment: Segment) -> bool:
        """Counts what was computed; True once nothing is pending."""
        self.generation.pending = self.generation.pending[len(segment.ids) :]
        return not len(self.generation.pending)


class Scheduler:
    """Runs generations over one Llama. Not for several threads at once."""

    def __init__(self, model: Llama, max_batch: int) -> None:
        self._model = model
        self._max_batch = max_batch
        self._waiting: deque[Generation] = deque()
        self._running: list[_Running] = []
        self._prefixes = PrefixCache(model.weights.shape, PREFIX_BYTES)

    @property
    def idle(self) -> bool:
        return not (self._waiting or self._running)

    def add(self, generation: Generation) -> None:
        self._waiting.append(generation)

    def fail(self, reason: str) -> None:
        """Ends all generations with a fault."""
        for generation in [*(run.generation for run in self._running), *self._waiting]:
            generation.deliver(EngineFault(reason, retryable=False))
        self._waiting.clear()
        self._running.clear()

    def step(self) -> None:
        """One batched step: a token for every generation whose prompt is in."""
        self._drop_cancelled()
        work = list(self._plan())
        if not work:
            return
        hidden = self._model.hidden([segment for _, segment in work])
        ends = accumulate(len(segment.ids) for _, segment in work)
        ready = [(run, end - 1) for (run, segment), end in zip(work, ends, strict=True) if run.advance(segment)]
        if not ready:
            return
        logits = self._model.logits(hidden[[row for _, row in ready]])
        for (run, _), row in zip(ready, logits, strict=True):
            self._sample(run, row)

    def _drop_cancelled(self) -> None:
        self._waiting = deque(generation for generation in self._waiting if not generation.cancelled)
        for run in [run for run in self._running if run.generation.cancelled]:
            self._retire(run)

    def _plan(self) -> Iterator[tuple[_Running, Segment]]:
        """What this step computes: all that decode, and pieces of prompts up to PREFILL_TOKENS."""
        budget = PREFILL_TOKENS
        for run in self._running:
            decodes = run.generation.sampled > 0
            piece = run.generation.pending[: 1 if decodes else budget]
            budget -= 0 if decodes else len(piece)
            if len(piece):
                yield run, Segment(run.cache, piece)
        while budget and (admitted := self._admit()):
            piece = admitted.generation.pending[:budget]
            budget -= len(piece)
            yield admitted, Segment(admitted.cache, piece)

    def _admit(self) -> _Running | None:
        """Starts the generation that has waited longest, unless the batch is full.

        Where a running prompt, not yet computed, shares more with it than any cache, it waits for that one: the
        members of a group ask together, and their prompt is computed once.
        """
        if not self._waiting or len(self._running) == self._max_batch:
            return None
        prompt = self._waiting[0].request.prompt_ids
        known = self._prefixes.longest(prompt, [run.cache for run in self._running])
        coming = [run.generation for run in self._running if not run.generation.sampled]
        promised = max((shared_prefix(prompt, generation.request.prompt_ids) for generation in coming), default=0)
        if promised > known.shared + WORTH_WAITING:
            return None
        generation = self._waiting.popleft()
        generation.pending = prompt[known.shared :]
        run = _Running(generation, self._prefixes.begin(known, len(prompt)))
        self._running.append(run)
        return run

    def _sample(self, run: _Running, logits: Floats) -> None:
        generation = run.generation
        index, logprob = generation.sampler.sample(logits)
        generation.pending = np.array([index], np.int32)
        generation.sampled += 1
        finish = self._finish(generation, index)
        if finish:
            self._retire(run)
        generation.deliver(Token(index, logprob, finish))

    def _finish(self, generation: Generation, newest: int) -> Finish | None:
        request = generation.request
        if newest in request.stop_ids:
            return Finish.STOP
        if generation.sampled == request.sampling.max_tokens:
            return Finish.LENGTH
        if len(request.prompt_ids) + generation.sampled == self._model.weights.shape.context:
            return Finish.CONTEXT
        return None

    def _retire(self, run: _Running) -> None:
        self._running.remove(run)
        self._prefixes.keep(run.cache)
