"""VllmEngine: weights that a vLLM server serves, token ids in and out."""

from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from typing import Protocol

import anyio
import msgspec
import numpy as np

from envhub.contracts.engine import EngineOptions, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import Experts, check_experts
from envhub.contracts.turn import Sampling
from envhub.engines.over_http.connection import HttpServer, decoded
from envhub.engines.over_http.data_url import data_url
from envhub.engines.over_http.engine import HttpEngine
from envhub.engines.over_http.held_tokens import Piece, VersionSpan, finish_of, version_of
from envhub.engines.over_http.served_model import GUIDE, ServedModel, served_model
from envhub.errors import EngineFault, UsageError

DEFAULT_URL = "http://127.0.0.1:8000"
GENERATE, COMPLETIONS = "/inference/v1/generate", "/v1/completions"
VERSION = "/weight_info"
RELOAD_S = 600.0  # for a server to read weights
TOKEN_ID = "token_id:"  # how completions write a token when asked for its id


def load(options: EngineOptions) -> Model:
    """The model that the vLLM server at `options.url` serves as `options.model`, with `options.tokenizer`.

    Raises:
        UsageError: no such server, model or tokenizer, or a server that can't give token ids.
    """
    served = served_model(options, DEFAULT_URL)
    return served.with_engine(VllmEngine(served), options)


class _Scored(msgspec.Struct):
    token_id: int
    logprob: float | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Scored] | None = None  # of generate
    tokens: list[str] = []  # of completions
    token_logprobs: list[float | None] = []


class _Choice(msgspec.Struct):
    sampling_mask: list[list[int]] | None = None  # where the server was started to return it, of generate alone
    routed_experts: str | None = None  # likewise, with the last event: base64 of an array in NumPy's .npy
    token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    weight_versions: list[VersionSpan] | None = None


class _Error(msgspec.Struct):
    message: str
    code: int = 500


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    error: _Error | None = None


class _Paused(msgspec.Struct):
    is_paused: bool


class _Version(msgspec.Struct):
    weight_version: str


class _Endpoint(Protocol):
    """One of vLLM's two ways to generate from token ids."""

    path: str
    takes_images: bool
    gives_masks: bool

    def body(self, request: EngineRequest, tells_experts: bool) -> dict[str, object]:
        """What it is asked, model and name left out."""

    def scores(self, logprobs: _Logprobs) -> tuple[list[int], list[float | None]]:
        """The ids that have a logprob, and it."""


class _Generate:
    path = GENERATE
    takes_images = True
    gives_masks = True

    def body(self, request: EngineRequest, tells_experts: bool) -> dict[str, object]:
        params = {**_sampling(request), **_truncation(request.sampling), "detokenize": False}
        if tells_experts:  # others would tell all of the prompt's again, or not know the word
            params["routed_experts_prompt_start"] = request.routed_from
        body: dict[str, object] = {"token_ids": request.prompt_ids.tolist(), "sampling_params": params}
        if request.images:
            body["content_parts"] = [
                {"type": "image_url", "url": data_url(shown.image), "uuid": shown.image.sha256}
                for shown in request.images
            ]
        return body

    def scores(self, logprobs: _Logprobs) -> tuple[list[int], list[float | None]]:
        content = logprobs.content or []
        return [scored.token_id for scored in content], [scored.logprob for scored in content]


class _Completions:
    """Takes what it is not told from the model's generation_config.json."""

    path = COMPLETIONS
    takes_images = False
    gives_masks = False
    neutral: Mapping[str, object] = {
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }

    def body(self, request: EngineRequest, tells_experts: bool) -> dict[str, object]:
        return {
            "prompt": request.prompt_ids.tolist(),
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            **self.neutral,
            **_sampling(request),
        }

    def scores(self, logprobs: _Logprobs) -> tuple[list[int], list[float | None]]:
        return [int(token.removeprefix(TOKEN_ID)) for token in logprobs.tokens], logprobs.token_logprobs


def _sampling(request: EngineRequest) -> dict[str, object]:
    sampling = request.sampling
    return {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "seed": sampling.seed,
        "logprobs": 0,  # of the sampled token alone
        "stop_token_ids": sorted(request.stop_ids),
        "ignore_eos": True,  # what ends a message is in stop_token_ids
    }


def _truncation(sampling: Sampling) -> dict[str, object]:
    if not sampling.truncated:
        return {}
    return {"top_p": sampling.top_p, "top_k": sampling.top_k, "min_p": sampling.min_p}


def _experts(encoded: str) -> Experts:
    """
    Raises:
        EngineFault: retryable, it is no array.
    """
    try:
        experts: Experts = np.load(BytesIO(b64decode(encoded)), allow_pickle=False)
        check_experts(experts, len(experts))
    except (ValueError, TypeError, EOFError) as error:  # UsageError is a ValueError
        raise EngineFault(f"the server's routed experts can't be read: {error}") from error
    return experts


class VllmEngine(HttpEngine):
    """What the server can do is found out here, once.

    Raises:
        UsageError: it can't generate from token ids.
    """

    def __init__(self, served: ServedModel) -> None:
        self._endpoint = _endpoint(served)
        super().__init__(
            HttpServer(served.url, served.key),
            served.context_tokens,
            takes_images=self._endpoint.takes_images,
            gives_masks=self._endpoint.gives_masks,
        )
        self._tells_experts = False  # an answer has
        self._model = served.name
        self._is_adapter = served.is_adapter
        self._tells_version = served.serves(VERSION, method="GET")
        self._stamped = PolicyVersion(0)  # by us, on a server that does not tell its version

    async def pause(self, *, keep: bool) -> None:
        await self._server.post(f"/pause?mode={'keep' if keep else 'abort'}")

    async def resume(self) -> None:
        await self._server.post("/resume")

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        """As ServedEngine says. What runs is held meanwhile, and goes on as if the new weights had read all before it.

        For an adapter `weights` are to be given: the server has no place of its own for them.
        """
        paused = decoded(_Paused, await self._server.get("/is_paused"), self._server).is_paused
        await self.pause(keep=True)
        try:
            await self._take(weights)
            # What was computed by the old weights goes, of running requests too.
            await self._server.post("/reset_prefix_cache?reset_running_requests=true")
            await self._stamp(version)
        finally:
            if not paused:
                with anyio.CancelScope(shield=True):
                    await self.resume()

    async def _take(self, weights: str) -> None:
        if not self._is_adapter:
            given = {"weights_path": weights} if weights else {}
            call = {"method": "reload_weights", "kwargs": given}
            await self._server.post("/collective_rpc", call, timeout_s=RELOAD_S)
            return
        if not weights:
            reason = f"adapter '{self._model}' is to be reloaded from nowhere; name the directory that it is in"
            raise EngineFault(reason, retryable=False)
        adapter = {"lora_name": self._model, "lora_path": weights, "load_inplace": True}
        await self._server.post("/v1/load_lora_adapter", adapter, timeout_s=RELOAD_S)

    async def _stamp(self, version: PolicyVersion) -> None:
        if self._tells_version:
            await self._server.post("/update_weight_version", {"new_version": str(version)})
        self._stamped = version
        await self._require_version(version)

    async def _ask_version(self) -> PolicyVersion:
        if not self._tells_version:
            return self._stamped
        return version_of(decoded(_Version, await self._server.get(VERSION), self._server).weight_version)

    def _asked(self, request: EngineRequest) -> tuple[str, Mapping[str, object]]:
        common = {"request_id": request.request_id, "model": self._model, "stream": True}
        return self._endpoint.path, {**common, **self._endpoint.body(request, self._tells_experts)}

    def _read(self, event: bytes, received: int) -> Piece | None:
        read = decoded(_Event, event, self._server)
        if read.error is not None:
            raise self._failed(read.error.message, read.error.code)
        if not read.choices:  # a server may add what it counted
            return None
        choice = read.choices[0]
        scored, logprobs = self._endpoint.scores(choice.logprobs or _Logprobs())
        finish = finish_of(choice.finish_reason)
        experts = _experts(choice.routed_experts) if choice.routed_experts else None
        self._tells_experts |= experts is not None
        ids, versions = choice.token_ids or [], choice.weight_versions
        return Piece(ids, scored, logprobs, finish, versions, choice.sampling_mask, experts)


def _endpoint(served: ServedModel) -> _Endpoint:
    if served.serves(GENERATE):
        return _Generate()
    if served.serves(COMPLETIONS):
        return _Completions()
    raise UsageError(
        f"the server {served.url} serves neither {GENERATE} nor {COMPLETIONS}, so it takes no token ids; "
        f"start vLLM with --enable-scale-out ({GUIDE})"
    )
