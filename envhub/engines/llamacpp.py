"""LlamaCppEngine: weights that a llama.cpp server serves, token ids in and out.

Its `/completion` leaves out the logprob of every token that ends inside a UTF-8 character. Such an answer is repaired:
the server is asked for the whole distribution at each of those places. Nothing is recorded short.
"""

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
import numpy as np

from envhub.contracts.engine import EngineChunk, EngineOptions, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion, derive_seed
from envhub.contracts.turn import Finish, Sampling
from envhub.engines.over_http.connection import HttpServer, decoded
from envhub.engines.over_http.served_model import ServedModel, ask
from envhub.engines.over_http.server_url import checked_url, key_variable, server_key
from envhub.engines.request_check import check_request
from envhub.errors import EngineFault, UsageError

DEFAULT_URL = "http://127.0.0.1:8080"
CHUNK_TOKENS = 32  # asked for at once: after as many a generation can be cut, and ended by an id
ANSWER_S = 600.0  # for a chunk, the wait for one of the server's slots included
SEEDS = 2**32 - 1  # the highest one means a random seed
CERTAIN = 1000.0  # added to a logit
LIKELY, ALL = 64, 2**31 - 1  # ids of a distribution; all of 49,152 are 4 MB
ROUNDING = 1e-3  # nats: the server's softmax is off by some 5e-5
Answer = TypeVar("Answer")


class _Settings(msgspec.Struct):
    n_ctx: int


class _Props(msgspec.Struct):
    default_generation_settings: _Settings
    model_path: str
    model_alias: str = ""


class _Likely(msgspec.Struct):
    id: int
    logprob: float | None = None


class _Scored(msgspec.Struct):
    """`logprob` before temperature, or where it was asked for so, `prob` after it."""

    id: int
    logprob: float | None = None
    prob: float | None = None
    top_logprobs: list[_Likely] = msgspec.field(default_factory=list)


class _Tokenized(msgspec.Struct):
    tokens: list[int]


class _Completion(msgspec.Struct):
    tokens: list[int]
    stop_type: str
    completion_probabilities: list[_Scored] = msgspec.field(default_factory=list)


def load(options: EngineOptions) -> Model:
    """The model of the llama.cpp server at `options.url`, http://127.0.0.1:8080 by default. Its tokenizer is that of
    `options.tokenizer`, else of the GGUF that the server has, where that is on this machine. A key that the server asks
    for is read from the environment: ENVHUB_KEY_<HOST>.

    Raises:
        UsageError: no such server, or no tokenizer.
    """
    url = checked_url(options.url or DEFAULT_URL, DEFAULT_URL).removesuffix("/v1")
    key = server_key(url)
    status, answer = ask(url, key, "/props")
    if status in (401, 403):
        raise UsageError(f"the server {url} asks for a key; put it into {key_variable(url)}")
    try:
        props = msgspec.json.decode(answer, type=_Props)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"{url} is no llama.cpp server: its /props can't be read ({error}); correct the url"
        ) from error
    name = Path(props.model_alias or props.model_path).stem
    served = ServedModel(url, key, name, props.default_generation_settings.n_ctx, props.model_path, is_adapter=False)
    return served.with_engine(LlamaCppEngine(HttpServer(url, key), served.context_tokens), options)


class LlamaCppEngine:
    """A ServedEngine whose weights stay as they are. It holds generations between two chunks while it is paused."""

    policy_version = PolicyVersion(0)

    def __init__(self, server: HttpServer, context_tokens: int) -> None:
        self.context_tokens = context_tokens
        self._server = server
        self._plain: int | None = None  # an id whose text is a whole character
        self._resumed: anyio.Event | None = None  # None: it runs
        self._aborts = 0

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        check_request(request, self.context_tokens)
        prompt, output, aborts = request.prompt_ids.tolist(), list[int](), self._aborts
        finish: Finish | None = None
        while finish is None:
            await self._open()
            if aborts != self._aborts:
                yield EngineChunk(np.empty(0, np.int32), np.empty(0, np.float32), self.policy_version, Finish.ABORT)
                return
            completion = await self._complete(prompt + output, request.sampling, len(output))
            ids = _until(completion.tokens, request.stop_ids)
            logprobs = await self._logprobs(prompt + output, ids, completion, request.sampling.temperature)
            output += ids
            finish = self._finish(request, output, ended=completion.stop_type == "eos")
            yield EngineChunk(np.array(ids, np.int32), np.array(logprobs, np.float32), self.policy_version, finish)

    async def health(self) -> None:
        await self._server.get("/health")

    async def version(self) -> PolicyVersion:
        await self.health()
        return self.policy_version

    async def pause(self, *, keep: bool) -> None:
        await self.health()
        self._resumed = self._resumed or anyio.Event()
        self._aborts += not keep

    async def resume(self) -> None:
        await self.health()
        resumed, self._resumed = self._resumed, None
        if resumed:
            resumed.set()

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        rule = "a llama.cpp server keeps the weights that it was started with: train with an engine that reloads"
        raise EngineFault(f"{self._server.url} can't take weights of version {version}; {rule}", retryable=False)

    async def close(self) -> None:
        await self._server.close()
        if self._resumed:
            self._resumed.set()

    async def _open(self) -> None:
        """Returns once it is not paused, or aborted what it holds."""
        aborts = self._aborts
        while self._resumed and aborts == self._aborts:
            await self._resumed.wait()

    async def _complete(self, ids: Sequence[int], sampling: Sampling, done: int) -> _Completion:
        """The next tokens, a chunk at most."""
        body: dict[str, object] = {
            "prompt": ids,
            "n_predict": min(CHUNK_TOKENS, sampling.max_tokens - done, self.context_tokens - len(ids)),
            "seed": derive_seed(sampling.seed or 0, "chunk", done) % SEEDS,
            "temperature": sampling.temperature,
            "samplers": ["temperature"],
            "n_probs": 0 if sampling.temperature == 0.0 else 1,
            "post_sampling_probs": sampling.temperature != 1.0,
            "return_tokens": True,
        }
        completion = await self._post("/completion", body, _Completion)
        if not completion.tokens:
            raise EngineFault("the server gave no token; look into its log")
        return completion

    async def _logprobs(
        self, ids: Sequence[int], output: Sequence[int], completion: _Completion, temperature: float
    ) -> list[float]:
        """Of each output id, which follow `ids`. What the server left out is asked for."""
        if temperature == 0.0:  # the choice is certain
            return [0.0] * len(output)
        scored = completion.completion_probabilities
        found = _aligned(completion.tokens, [score.id for score in scored])
        given = [None if place is None else _given(scored[place]) for place in found[: len(output)]]
        return [
            _fit(await self._asked([*ids, *output[:place]], id, temperature) if logprob is None else logprob)
            for place, (id, logprob) in enumerate(zip(output, given, strict=True))
        ]

    async def _asked(self, ids: Sequence[int], id: int, temperature: float) -> float:
        """The logprob of `id` after `ids`."""
        if temperature == 1.0:
            likely = await self._distribution(ids, LIKELY)
            if id in likely:
                return likely[id]
        logprobs = await self._distribution(ids, ALL)
        if id not in logprobs:
            raise EngineFault(f"the server gives no logprob of the token {id} that it sampled")
        scaled = np.array([*logprobs.values()]) / temperature
        return float(logprobs[id] / temperature - np.log(np.exp(scaled).sum()))

    async def _distribution(self, ids: Sequence[int], most: int) -> dict[int, float]:
        """The likeliest ids after `ids`, before temperature. The server is made to choose a whole character there, lest
        it leave out these too; what it tells is from before that choice."""
        if self._plain is None:
            self._plain = (await self._post("/tokenize", {"content": "a"}, _Tokenized)).tokens[0]
        body = {"prompt": ids, "n_predict": 1, "samplers": [], "logit_bias": [[self._plain, CERTAIN]], "n_probs": most}
        completion = await self._post("/completion", body | {"return_tokens": True}, _Completion)
        likely = [each for score in completion.completion_probabilities for each in score.top_logprobs]
        return {each.id: each.logprob for each in likely if each.logprob is not None}

    def _finish(self, request: EngineRequest, output: Sequence[int], *, ended: bool) -> Finish | None:
        if output[-1] in request.stop_ids or ended:
            return Finish.STOP
        if len(output) == request.sampling.max_tokens:
            return Finish.LENGTH
        return Finish.CONTEXT if len(request.prompt_ids) + len(output) == self.context_tokens else None

    async def _post(self, path: str, body: Mapping[str, object], kind: type[Answer]) -> Answer:
        return decoded(kind, await self._server.post(path, body, timeout_s=ANSWER_S), self._server)


def _until(ids: Sequence[int], stop_ids: frozenset[int]) -> list[int]:
    """Up to the first stop id: the server knows its own alone."""
    stop = next((place for place, id in enumerate(ids) if id in stop_ids), len(ids))
    return list(ids[: stop + 1])


def _aligned(ids: Sequence[int], scored: Sequence[int]) -> list[int | None]:
    """For each id, its place in `scored`, which leaves some out; None where it is left out, or may be.

    Raises:
        EngineFault: `scored` has what `ids` has not.
    """
    first = _leftmost(ids, scored)
    last = [None if place is None else len(scored) - 1 - place for place in _leftmost(ids[::-1], scored[::-1])[::-1]]
    return [place if place == other else None for place, other in zip(first, last, strict=True)]


def _leftmost(ids: Sequence[int], scored: Sequence[int]) -> list[int | None]:
    places: list[int | None] = []
    matched = 0
    for id in ids:
        fits = matched < len(scored) and scored[matched] == id
        places.append(matched if fits else None)
        matched += fits
    if matched < len(scored):
        raise EngineFault(f"the server's answer can't be recorded: it has logprobs of the ids {scored} for {ids}")
    return places


def _given(score: _Scored) -> float | None:
    """None where it is too small for the server to tell."""
    if score.prob is None:
        return score.logprob
    return math.log(score.prob) if score.prob > 0 else None


def _fit(logprob: float) -> float:
    if not -np.inf < logprob < ROUNDING:  # NaN fails every comparison
        raise EngineFault(f"the server's answer can't be recorded: it has the logprob {logprob}")
    return min(logprob, 0.0)
