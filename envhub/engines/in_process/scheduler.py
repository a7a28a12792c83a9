"""Scheduler: generations that decode together, one step at a time; new ones join and ended ones leave between steps.

Invariants: at most `max_batch` generations run, the others wait in order of arrival. Every generation that was added
ends exactly once: with a token that carries its finish, by being aborted or cancelled, or with the fault given to
`fail`.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeAlias

import numpy as np

from envhub.contracts.engine import EngineRequest
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import Experts
from envhub.contracts.turn import Finish, Ids
from envhub.engines.in_process.decoder import CacheT, Decoder, Segment
from envhub.engines.in_process.prefix_cache import PrefixCache, shared_prefix
from envhub.engines.in_process.sampling import Drawn, Sampler
from envhub.errors import EngineFault

WORTH_WAITING = 8  # tokens: a prompt that shares fewer with a running one is computed at once


@dataclass(frozen=True, slots=True)
class Token:
    """A sampled token; the last of its generation carries why it ended."""

    id: int
    logprob: float
    policy_version: PolicyVersion
    finish: Finish | None
    allowed: Ids | None = None  # what it was drawn from, where the sampling is truncated
    experts: Experts | None = None  # with `finish`, of a model that routes: of all tokens that it read


Delivered: TypeAlias = Token | Finish | EngineFault  # a Finish alone: it ends with the tokens that it has


class Generation:
    """One request on its way. `deliver` gets its tokens, and what else may end it, in the scheduler's thread."""

    def __init__(self, request: EngineRequest, deliver: Callable[[Delivered], None]) -> None:
        self.request = request
        self.deliver = deliver
        self.cancelled = False  # set from any thread: it ends before the next step
        self.sampler = Sampler(request.sampling)
        self.output: list[int] = []
        self.pending: Ids = request.prompt_ids  # what is still to compute: of its prompt, then its newest token

    @property
    def ids(self) -> Ids:
        """int32: its prompt, and what it has of its output."""
        return np.concatenate([self.request.prompt_ids, np.array(self.output, np.int32)])

    @property
    def decodes(self) -> bool:
        """Its next step brings a token."""
        return len(self.pending) == 1


@dataclass(frozen=True, slots=True, eq=False)
class _Running(Generic[CacheT]):
    generation: Generation
    cache: CacheT

    def segment(self, most: int) -> Segment[CacheT]:
        pending = self.generation.pending
        return Segment(self.cache, pending[:most], self.generation.sampler if len(pending) <= most else None)


class Scheduler(Generic[CacheT]):
    """Runs generations over one decoder. Not for several threads at once."""

    def __init__(self, decoder: Decoder[CacheT], max_batch: int) -> None:
        self.paused = False
        self._decoder = decoder
        self._max_batch = max_batch
        self._waiting: deque[Generation] = deque()
        self._running: list[_Running[CacheT]] = []
        self._prefixes = PrefixCache(decoder)

    @property
    def idle(self) -> bool:
        return self.paused or not (self._waiting or self._running)

    def add(self, generation: Generation) -> None:
        self._waiting.append(generation)

    def fail(self, reason: str) -> None:
        """Ends all generations with a fault."""
        self._end(EngineFault(reason, retryable=False))

    def abort(self) -> None:
        """Ends all generations with what they have."""
        self._end(Finish.ABORT)

    def forget(self) -> None:
        """Computes anew what it knows of every sequence, as the weights are others now."""
        for run in reversed(self._running):
            run.generation.pending = run.generation.ids
            self._waiting.appendleft(run.generation)
            self._decoder.release(run.cache)
        self._running.clear()
        self._prefixes.clear()

    def step(self) -> None:
        """One batched step: a token for every generation whose prompt is in."""
        self._drop_cancelled()
        work = list(self._plan())
        if not work:
            return
        version = self._decoder.policy_version
        drawn = iter(self._decoder.step([segment for _, segment in work]))
        for run, segment in work:
            run.generation.pending = run.generation.pending[len(segment.ids) :]
            if segment.sampler:
                self._advance(run, next(drawn), version)

    def _end(self, how: Finish | EngineFault) -> None:
        for generation in [*(run.generation for run in self._running), *self._waiting]:
            generation.deliver(how)
        self._waiting.clear()
        for run in [*self._running]:
            self._retire(run)

    def _drop_cancelled(self) -> None:
        self._waiting = deque(generation for generation in self._waiting if not generation.cancelled)
        for run in [run for run in self._running if run.generation.cancelled]:
            self._retire(run)

    def _plan(self) -> Iterator[tuple[_Running[CacheT], Segment[CacheT]]]:
        """What this step computes: all that decode, and pieces of prompts up to the decoder's measure."""
        budget = self._decoder.prefill_tokens
        for run in self._running:
            segment = run.segment(1 if run.generation.decodes else budget)
            budget -= 0 if run.generation.decodes else len(segment.ids)
            if len(segment.ids):
                yield run, segment
        while budget and (admitted := self._admit()):
            segment = admitted.segment(budget)
            budget -= len(segment.ids)
            yield admitted, segment

    def _admit(self) -> _Running[CacheT] | None:
        """Starts the generation that has waited longest, unless the batch is full.

        Where a running prompt, not yet computed, shares more with it than any cache, it waits for that one: the
        members of a group ask together, and their prompt is computed once.
        """
        if not self._waiting or len(self._running) == self._max_batch:
            return None
        ids = self._waiting[0].ids
        known = self._prefixes.longest(ids, [run.cache for run in self._running])
        coming = [run.generation for run in self._running if not run.generation.decodes]
        promised = max((shared_prefix(ids, generation.ids) for generation in coming), default=0)
        if promised > known.shared + WORTH_WAITING:
            return None
        generation = self._waiting.popleft()
        generation.pending = ids[known.shared :]
        run = _Running(generation, self._prefixes.begin(known, len(ids)))
        self._running.append(run)
        return run

    def _advance(self, run: _Running[CacheT], drawn: Drawn, version: PolicyVersion) -> None:
        generation = run.generation
        generation.pending = np.array([drawn.id], np.int32)
        generation.output.append(drawn.id)
        finish = self._finish(generation)
        experts = None
        if finish:
            experts = run.cache.experts
            self._retire(run)
        generation.deliver(Token(drawn.id, drawn.logprob, version, finish, drawn.allowed, experts))

    def _finish(self, generation: Generation) -> Finish | None:
        request, sampled = generation.request, len(generation.output)
        if generation.output[-1] in request.stop_ids:
            return Finish.STOP
        if sampled == request.sampling.max_tokens:
            return Finish.LENGTH
        if len(request.prompt_ids) + sampled == self._decoder.context_tokens:
            return Finish.CONTEXT
        return None

    def _retire(self, run: _Running[CacheT]) -> None:
        self._running.remove(run)
        self._prefixes.keep(run.cache)
