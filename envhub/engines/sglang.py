"""SglangEngine: weights that an SGLang server serves, token ids in and out through its native API.

Written after SGLang's source (managers/io_struct.py, entrypoints/http_server.py): no SGLang ran here, as it needs CUDA.
"""

from collections.abc import Mapping
from contextlib import suppress

import msgspec

from envhub.contracts.engine import EngineOptions, EngineRequest, Model
from envhub.contracts.ids import PolicyVersion
from envhub.engines.over_http.connection import HttpServer, decoded
from envhub.engines.over_http.engine import HttpEngine
from envhub.engines.over_http.held_tokens import Piece, VersionSpan, finish_of, version_of
from envhub.engines.over_http.served_model import GUIDE, ServedModel, served_model
from envhub.errors import EngineFault, UsageError

DEFAULT_URL = "http://127.0.0.1:30000"
MODEL_INFO = "/model_info"
RELOAD_S = 600.0  # for a server to read weights


def load(options: EngineOptions) -> Model:
    """The model that the SGLang server at `options.url` serves, with `options.tokenizer`.

    Raises:
        UsageError: no such server, model or tokenizer, or a server too old.
    """
    served = served_model(options, DEFAULT_URL)
    return served.with_engine(SglangEngine(served), options)


class _Finished(msgspec.Struct):
    type: str
    message: str = ""
    status_code: int | None = None  # of an abort that is an error


class _Meta(msgspec.Struct):
    completion_tokens: int  # so far
    finish_reason: _Finished | None = None
    output_token_logprobs: list[tuple[float | None, int, object]] = []  # with the token's text
    weight_versions: list[VersionSpan] | None = None


class _Error(msgspec.Struct):
    message: str


class _Event(msgspec.Struct):
    """Ids and logprobs are of the new tokens alone, or of all so far: as the server was started."""

    output_ids: list[int] = []
    meta_info: _Meta | None = None
    error: _Error | None = None


class _Info(msgspec.Struct):
    weight_version: str
    model_path: str


class _Update(msgspec.Struct):
    success: bool
    message: str = ""


class SglangEngine(HttpEngine):
    """
    Raises:
        UsageError: the server does not tell its version.
    """

    def __init__(self, served: ServedModel) -> None:
        # It wants prompt and output to stay below the context's length, not to reach it. No images: beside them it
        # makes text of most models' prompts and tokenises that anew.
        super().__init__(HttpServer(served.url, served.key), served.context_tokens - 1, takes_images=False)
        if not served.serves(MODEL_INFO, method="GET"):
            raise UsageError(f"the server {served.url} has no {MODEL_INFO}, so it is no SGLang, or too old ({GUIDE})")

    async def pause(self, *, keep: bool) -> None:
        # retract, not in_place: what runs is computed anew after the pause, by the weights that are there then.
        await self._server.post("/pause_generation", {"mode": "retract" if keep else "abort"})

    async def resume(self) -> None:
        await self._server.post("/continue_generation")

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        """As ServedEngine says. While it is not paused, the server waits for what runs to end first."""
        update = {"model_path": weights or (await self._info()).model_path, "weight_version": str(version)}
        answer = await self._server.post("/update_weights_from_disk", update, timeout_s=RELOAD_S)
        updated = decoded(_Update, answer, self._server)
        if not updated.success:
            raise EngineFault(f"the server {self._server.url} did not take '{weights}': {updated.message}")
        await self._require_version(version)

    async def _ask_version(self) -> PolicyVersion:
        return version_of((await self._info()).weight_version)

    async def _info(self) -> _Info:
        return decoded(_Info, await self._server.get(MODEL_INFO), self._server)

    async def _give_up(self, request_id: str) -> None:
        with suppress(EngineFault):  # it would find out by itself, some seconds later
            await self._server.post("/abort_request", {"rid": request_id})

    def _asked(self, request: EngineRequest) -> tuple[str, Mapping[str, object]]:
        sampling = request.sampling
        return "/generate", {
            "rid": request.request_id,
            "input_ids": request.prompt_ids.tolist(),
            "stream": True,
            "return_logprob": True,
            "sampling_params": {
                "max_new_tokens": sampling.max_tokens,
                "temperature": sampling.temperature,
                "sampling_seed": sampling.seed,
                "stop_token_ids": sorted(request.stop_ids),
                "top_p": 1.0,
                "top_k": -1,
                "min_p": 0.0,
                "repetition_penalty": 1.0,
                "presence_penalty": 0.0,
                "frequency_penalty": 0.0,
            },
        }

    def _read(self, event: bytes, received: int) -> Piece | None:
        read = decoded(_Event, event, self._server)
        meta = read.meta_info
        if meta is None:
            raise self._failed(read.error.message if read.error else "it sent an event without meta_info")
        new = meta.completion_tokens - received
        ids, scores = (read.output_ids[-new:], meta.output_token_logprobs[-new:]) if new else ([], [])
        if len(ids) != new:
            raise self._failed(f"it counts {new} new tokens, and sent {len(ids)}")
        reason = meta.finish_reason
        if reason is not None and reason.status_code is not None:
            raise self._failed(reason.message, reason.status_code)
        finish = finish_of(reason.type if reason else None)
        return Piece(ids, [score[1] for score in scores], [score[0] for score in scores], finish, meta.weight_versions)
