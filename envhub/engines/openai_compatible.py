"""OpenAIPolicies: policies over a server that speaks OpenAI's chat completions: for judges, search and evaluation.

Messages go in and come out. There are no token ids, so its turns are recorded as inexact: they have a response and no
tokens, nothing of them is trainable, and the feed refuses them unless it is asked for them.
"""

import os
import random
import time
from dataclasses import replace
from urllib.parse import urlsplit

import anyio
import numpy as np

from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import derive_seed
from envhub.contracts.messages import JsonObject, JsonValue, Message
from envhub.contracts.policy import Action, Heard, Policy, PolicyCall, PolicyInput
from envhub.contracts.turn import Finish, Fork, Sampling, Timings, Turn
from envhub.engines.over_http.connection import HttpServer, decoded
from envhub.engines.over_http.openai_messages import Completion, messages_json, tool_json
from envhub.engines.over_http.server_url import checked_url, server_key
from envhub.errors import EngineFault, Truncated, UsageError

PATH = "/chat/completions"
OPENAI = "api.openai.com"
KEY = "OPENAI_API_KEY"
ANSWER_S = 600.0
TRIES = 5
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 30.0
SEED_BITS = (1 << 31) - 1  # that every server takes
BYTES_A_TOKEN = 4  # of English, by most tokenizers
OVERFLOWS = ("context_length_exceeded", "maximum context length", "exceeds the available context")  # say servers


def load(options: EngineOptions) -> "OpenAIPolicies":
    """Policies over `options.model` at `options.url`, a base URL such as https://api.openai.com/v1.

    The key is read from the environment: ENVHUB_KEY_<HOST> (ENVHUB_KEY_API_OPENAI_COM), else OPENAI_API_KEY, else none
    is sent.

    Raises:
        UsageError: an option that cannot work.
    """
    url = checked_url(options.url, "https://api.openai.com/v1")
    if not options.model:
        raise UsageError(f"no model is named for {options.url}; give model=NAME, as its server calls it")
    return OpenAIPolicies(url, options.model, key=server_key(url) or os.environ.get(KEY, ""))


class OpenAIPolicies:
    """A PolicyFactory. One server's connections, whatever rollouts ask."""

    def __init__(self, url: str, model: str, *, key: str = "") -> None:
        self.name = model
        # OpenAI's newer models know the second name alone, and most other servers the first.
        self.length_field = "max_completion_tokens" if urlsplit(url).hostname == OPENAI else "max_tokens"
        self._server = HttpServer(url, key)

    def policy(self, call: PolicyCall) -> Policy:
        return OpenAIPolicy(self, call)

    async def close(self) -> None:
        await self._server.close()

    async def complete(self, body: JsonObject) -> Completion:
        """An answer; what another try may mend is tried again, later each time.

        Raises:
            Truncated: "context", the conversation does not fit the model.
            EngineFault: no answer.
        """
        for tried in range(1, TRIES):
            try:
                return await self._ask(body)
            except EngineFault as fault:
                if not fault.retryable:
                    raise
            # Spread out, lest all that met a busy server meet it again together.
            longest = min(FIRST_WAIT_S * 2**tried, LONGEST_WAIT_S)
            await anyio.sleep(random.uniform(longest / 2, longest))
        return await self._ask(body)

    async def _ask(self, body: JsonObject) -> Completion:
        try:
            return decoded(Completion, await self._server.post(PATH, body, timeout_s=ANSWER_S), self._server)
        except EngineFault as fault:
            if any(sign in fault.message for sign in OVERFLOWS):
                raise Truncated("context") from fault
            raise


class OpenAIPolicy:
    """The policy of one rollout. Calls may run side by side."""

    def __init__(self, policies: OpenAIPolicies, call: PolicyCall) -> None:
        self._policies = policies
        self._call = call
        self._newest: tuple[tuple[Message, ...], int] = ((), -1)  # a conversation with its answer, and their turn

    async def act(self, input: PolicyInput) -> Action:
        call, started_at = self._call, time.time()
        index = call.next_index()
        sampling = input.sampling or call.sampling
        if sampling.seed is None:
            sampling = replace(sampling, seed=derive_seed(call.seed, "turn", index))
        completion = await self._policies.complete(self._body(input, sampling))
        message, finish, usage = completion.message(f"c{index:06}"), completion.finish, completion.usage
        ended_at = time.time()
        if input.listener and input.listener.hears:
            input.listener.hear(Heard(message.content, message.reasoning))
        turn = self._turn(index, input, sampling, message, finish, Timings(started_at, ended_at, ended_at))
        call.record(turn)
        self._newest = ((*input.messages, message), index)
        return Action(
            message,
            finish,
            index,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            output_tokens=usage.completion_tokens if usage else 0,
        )

    def count(self, input: PolicyInput) -> int:
        """About as many: only the server knows."""
        texts = [message.content for message in input.messages] + [tool.description for tool in input.tools]
        return sum(len(text.encode()) for text in texts) // BYTES_A_TOKEN

    def _body(self, input: PolicyInput, sampling: Sampling) -> JsonObject:
        body: dict[str, JsonValue] = {
            "model": self._policies.name,
            "messages": messages_json(input.messages),
            "temperature": sampling.temperature,
            self._policies.length_field: sampling.max_tokens,
            "seed": (sampling.seed or 0) & SEED_BITS,
        }
        if sampling.top_p < 1.0:
            body["top_p"] = sampling.top_p
        if sampling.top_k:  # this one and min_p are no part of OpenAI's API, but of most servers of its kind
            body["top_k"] = sampling.top_k
        if sampling.min_p:
            body["min_p"] = sampling.min_p
        if input.tools:
            body["tools"] = [tool_json(tool) for tool in input.tools]
        if input.stop:
            body["stop"] = list(input.stop)
        return body

    def _turn(
        self, index: int, input: PolicyInput, sampling: Sampling, response: Message, finish: Finish, timings: Timings
    ) -> Turn:
        earlier, parent = self._newest
        goes_on = bool(earlier) and input.messages[: len(earlier)] == earlier
        return Turn(
            index=index,
            policy_id=self._call.policy_id,
            parent=parent if goes_on else None,
            fork=Fork.NONE if goes_on else input.fork,
            messages=input.messages[len(earlier) :] if goes_on else input.messages,
            tools=tuple(tool.name for tool in input.tools),
            delta_ids=np.empty(0, np.int32),
            output_ids=np.empty(0, np.int32),
            logprobs=np.empty(0, np.float32),
            spans=(),
            response=response,
            finish=finish,
            sampling=sampling,
            asked=input.asked,
            logprob_kind="inexact",
            timings=timings,
        )
