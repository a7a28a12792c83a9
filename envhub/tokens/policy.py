"""TokenPolicy: a Policy over any engine of tokens, whose every call becomes a Turn with its exact tokens."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import anyio
import numpy as np

from envhub.contracts.engine import EngineRequest, Model
from envhub.contracts.ids import PolicyId, RolloutId, derive_seed
from envhub.contracts.messages import Message, Role
from envhub.contracts.policy import Action, Cut, PolicyInput
from envhub.contracts.token_file import TokenFile
from envhub.contracts.turn import Finish, Sampling, Span, Timings, Turn
from envhub.errors import Boundary, EngineFault, Truncated, boundary
from envhub.tokens.answer import Answer
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.gate import Gate, OpenGate
from envhub.tokens.hearing import Hearing
from envhub.tokens.ledger import Ledger, Prompt

RETRIES = 2  # of one call, after a retryable fault of the engine or an answer that can't be recorded


@dataclass(slots=True, eq=False)
class _Call:
    """One call while it runs."""

    input: PolicyInput
    prompt: Prompt
    sampling: Sampling  # of the present try
    hearing: Hearing | None = None
    answer: Answer = field(init=False)  # of the present try


class TokenPolicy:
    """One policy in one rollout. Calls may run side by side.

    A call is recorded whole, once its answer is complete and checked, or as far as it came where its caller cuts it or
    its rollout is aborted; a call that failed or was cancelled leaves nothing but a gap in the indices.
    """

    def __init__(
        self,
        model: Model,
        renderer: ChatRenderer,
        ledger: Ledger,
        *,
        policy_id: PolicyId,
        rollout_id: RolloutId,
        trainable: bool,
        sampling: Sampling,
        seed: int,
        record: Callable[[Turn], None],
        gate: Gate | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._renderer = renderer
        self._ledger = ledger
        self._policy_id = policy_id
        self._rollout_id = rollout_id
        self._trainable = trainable
        self._sampling = sampling
        self._seed = seed
        self._record = record
        self._gate = gate or OpenGate()
        self._clock = clock

    async def act(self, input: PolicyInput) -> Action:
        """The model's next message.

        Raises:
            Truncated: "context", the conversation fills the model's context.
            Fault: "policy", the chat template refused the conversation; "engine", it failed, or answered three times
                what can't be recorded, or the call was cut before it had answered anything.
        """
        with boundary(Boundary.POLICY):
            prompt = self._ledger.prepare(self._policy_id, self._renderer, input)
        turn = prompt.answer
        if turn is None:
            call = _Call(input, prompt, self._enforced(input.sampling or self._sampling, prompt))
            call.hearing = self._hearing(input, prompt)
            if input.cut is None:
                await self._sample(call)
                turn = self._save(call)
            else:
                turn = await self._turn_until(input.cut, call)
        else:
            self._ledger.commit(prompt, turn)
            self._record(turn)
        if input.listener is not None:
            input.listener.read(turn, self._model.tokenizer)
        return Action(
            turn.response,
            turn.finish,
            turn.index,
            prompt_tokens=len(prompt.prompt_ids),
            output_tokens=len(turn.output_ids),
            context_tokens=self._model.engine.context_tokens,
        )

    def count(self, input: PolicyInput) -> int:
        """The tokens of that prompt, rendered from its first message on.

        Raises:
            Fault: "policy", the chat template refused the conversation.
        """
        with boundary(Boundary.POLICY):
            return len(self._renderer.first(input.messages, input.tools))

    async def _turn_until(self, cut: Cut, call: _Call) -> Turn:
        """The whole turn, or what there is of it when it is cut."""
        with cut:
            await self._sample(call)
            return self._save(call)
        if not call.answer.tokens:
            raise EngineFault("the call was cut before its answer began", retryable=False)
        return self._save_cut(call)

    def _save(self, call: _Call) -> Turn:
        turn = self._turn(call)
        self._ledger.commit(call.prompt, turn)
        self._record(turn)
        return turn

    def _save_cut(self, call: _Call) -> Turn:
        """Of an answer that will not go on."""
        call.answer.cut(call.prompt.stop_ids, Finish.ABORT)
        with boundary(Boundary.ENGINE):
            call.answer.end()
        return self._save(call)

    def _enforced(self, asked: Sampling, prompt: Prompt) -> Sampling:
        """What was asked for, within the context that is left, with the seed of this call."""
        left = self._model.engine.context_tokens - len(prompt.prompt_ids)
        if left <= 0:
            raise Truncated("context")
        seed = derive_seed(self._seed, "turn", prompt.index) if asked.seed is None else asked.seed
        return Sampling(asked.temperature, min(asked.max_tokens, left), seed, asked.top_p, asked.top_k, asked.min_p)

    def _hearing(self, input: PolicyInput, prompt: Prompt) -> Hearing | None:
        listener = input.listener if input.listener and input.listener.hears else None
        if listener is None and not input.stop:
            return None
        thinking = self._renderer.thinks_after(prompt.prompt_ids)
        form, tokenizer = self._renderer.form, self._model.tokenizer
        return Hearing(tokenizer, form, thinking=thinking, stop=input.stop, listener=listener)

    async def _sample(self, call: _Call) -> None:
        """Completes the answer. Every retry has a seed of its own, lest it fail alike."""
        first = call.sampling
        for retry in range(1, RETRIES + 1):
            try:
                return await self._generate(call, retry - 1)
            except EngineFault as fault:
                if not fault.retryable or (call.hearing and call.hearing.told):
                    raise
            call.sampling = replace(first, seed=derive_seed(first.seed or 0, "retry", retry))
        return await self._generate(call, RETRIES)

    async def _generate(self, call: _Call, retry: int) -> None:
        """One generation, in as many parts as pauses make of it."""
        sampling = call.sampling
        answer = call.answer = Answer(sampling.max_tokens, self._clock(), sampling.truncated, call.prompt.routed_from)
        if call.hearing:
            call.hearing.begin()
        try:
            for part in count():
                if self._gate.shut(self._policy_id):
                    await self._gate.open(self._policy_id)
                request = self._request(call, f"{retry}" if not part else f"{retry}.{part}")
                with boundary(Boundary.ENGINE), self._gate.call(self._policy_id) as generation:
                    await self._receive(request, answer, call.hearing)
                if generation.cancel_called:
                    answer.cut(request.stop_ids)
                if answer.over or not generation.cancel_called:
                    break
        except anyio.get_cancelled_exc_class():
            if self._gate.aborted and answer.tokens:
                self._save_cut(call)
            raise
        with boundary(Boundary.ENGINE):
            answer.end()

    async def _receive(self, request: EngineRequest, answer: Answer, hearing: Hearing | None) -> None:
        chunks = self._model.engine.generate(request)
        try:  # aclosing() would be two coroutines more a turn
            async for chunk in chunks:
                answer.add(chunk, at=self._clock())
                if hearing and hearing.add(chunk.ids.tolist()):
                    answer.stop()
                    return
                if self._gate.keeps(self._policy_id):
                    await self._gate.open(self._policy_id)
        finally:
            await chunks.aclose()

    def _request(self, call: _Call, name: str) -> EngineRequest:
        """For all of the answer, or for what it still lacks."""
        prompt, sampling, answer = call.prompt, call.sampling, call.answer
        prompt_ids, version = prompt.prompt_ids, None
        if answer.tokens:
            prompt_ids = np.concatenate((prompt_ids, answer.so_far()))
            version = answer.runs[-1][0] if self._gate.pinned else None
            left = sampling.max_tokens - answer.tokens
            sampling = replace(sampling, max_tokens=left, seed=derive_seed(sampling.seed or 0, "part", answer.tokens))
        request_id = f"{self._rollout_id}/{prompt.index}/{name}"
        return EngineRequest(request_id, prompt_ids, sampling, prompt.stop_ids, version, prompt.images, answer.routed)

    def _turn(self, call: _Call) -> Turn:
        input, prompt, answer = call.input, call.prompt, call.answer
        fork = self._ledger.fork(prompt)
        trains = self._trainable and self._ledger.kind(prompt, fork) in input.trains
        with boundary(Boundary.ENGINE):  # an id outside the vocabulary has no text
            call_ids = f"c{prompt.index:06}"
            response = self._renderer.read(answer.ids, call_ids, input.tools, prompt_ids=prompt.prompt_ids)
        if input.stop:
            response = _before(input.stop, response)
        return Turn(
            index=prompt.index,
            policy_id=self._policy_id,
            parent=prompt.parent,
            fork=fork,
            messages=prompt.messages,
            tools=prompt.tools,
            delta_ids=prompt.delta_ids,
            output_ids=answer.ids,
            logprobs=answer.logprobs,
            spans=self._spans(call, trains),
            response=response,
            finish=self._finish(prompt, answer),
            sampling=call.sampling,
            asked=input.asked,
            logprob_kind="exact" if self._model.exact else "inexact",
            timings=Timings(answer.started_at, answer.first_token_at, self._clock()),
            images=prompt.new_images,
            rewritten=prompt.rewritten,
            files=_files(prompt, answer) if answer.mask is not None or answer.experts else (),
        )

    def _spans(self, call: _Call, trains: bool) -> tuple[Span, ...]:
        """One for each run of tokens of one policy version."""
        spans, end = [], 0
        for version, tokens in call.answer.runs:
            start, end = end, end + tokens
            spans.append(
                Span(
                    start,
                    end,
                    Role.ASSISTANT,
                    sampled=True,
                    trainable=trains,
                    policy_id=self._policy_id,
                    policy_version=version,
                    temperature=call.sampling.temperature,
                    turn=call.prompt.index,
                )
            )
        return tuple(spans)

    def _finish(self, prompt: Prompt, answer: Answer) -> Finish:
        """A length that the context imposed is the context's."""
        full = len(prompt.prompt_ids) + len(answer.ids) >= self._model.engine.context_tokens
        return Finish.CONTEXT if answer.finish is Finish.LENGTH and full else answer.finish


def _files(prompt: Prompt, answer: Answer) -> tuple[TokenFile, ...]:
    """What is known of single tokens, from the first of the prompt's delta on."""
    known = len(prompt.prompt_ids) - len(prompt.delta_ids)
    files: list[TokenFile] = []
    if answer.mask is not None:
        files.append(TokenFile.of_mask(answer.mask, len(prompt.delta_ids)))
    if answer.experts:
        files.append(TokenFile.of_experts(np.concatenate(answer.experts), answer.routed_from - known))
    return tuple(files)


def _before(stop: Sequence[str], message: Message) -> Message:
    """The message up to the first of these texts."""
    found = [at for text in stop if (at := message.content.find(text)) >= 0]
    return replace(message, content=message.content[: min(found)], tool_calls=()) if found else message
