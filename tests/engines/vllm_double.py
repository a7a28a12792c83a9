"""VllmDouble: the endpoints of vLLM 0.32 that VllmEngine uses, with answers as that server gave them."""

from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from io import BytesIO

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from tests.engines.server_double import CONTEXT, VOCABULARY, Json, ServerDouble


def npy(array: NDArray[np.uint8]) -> str:
    file = BytesIO()
    np.save(file, array)
    return b64encode(file.getvalue()).decode()


def routed(ids: Sequence[int]) -> NDArray[np.uint8]:
    """[n, layers, k]: where the double's model routes tokens."""
    return np.array([[[index % 7, index % 5]] for index in ids], np.uint8).reshape(-1, 1, 2)


def left(index: int) -> list[int]:
    """What truncated sampling leaves, of which this one was drawn."""
    return [index, VOCABULARY + index]


CERTAIN = 1e-9  # a temperature at which one id has all of the probability, as where it is the only one left


class VllmDouble(ServerDouble):
    """As started with --enable-scale-out and VLLM_SERVER_DEV_MODE=1."""

    returns_masks = False  # --return-sampling-mask
    returns_experts = False  # --enable-return-routed-experts

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.post("/inference/v1/generate", self._generate),
            web.post("/v1/completions", self._complete),
            web.get("/weight_info", self._weight_info),
            web.post("/update_weight_version", self._update_weight_version),
            web.post("/pause", self._pause),
            web.post("/resume", self._resume),
            web.get("/is_paused", self._is_paused),
            web.post("/collective_rpc", self._ok_json),
            web.post("/reset_prefix_cache", self._ok_json),
            web.post("/v1/load_lora_adapter", self._ok_json),
        ]

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "token_ids" not in body:
            return _refused("Field required")
        asked = body["sampling_params"]
        if self.returns_masks and not (asked["temperature"] > 0 and asked.get("top_k", 0) > 0):
            return _refused("sampling distribution replay requires temperature > 0 and top_k > 0")
        return await self.stream(request, self._tokens(asked, body["token_ids"]))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if "prompt" not in body:
            return _refused("Field required")
        if len(body["prompt"]) + body["max_tokens"] > CONTEXT:
            return _refused("max_tokens is too large")
        return await self.stream(request, self._completed(body))

    async def _tokens(self, asked: Json, prompt: Sequence[int] = ()) -> AsyncIterator[Json]:
        seen = 0
        certain = asked.get("top_k") == 1
        temperature = asked["temperature"] if not certain else CERTAIN
        async for so_far in self.sample(asked["seed"], temperature, asked["max_tokens"], asked["stop_token_ids"]):
            new = zip(so_far.ids[seen:], so_far.logprobs[seen:], strict=True)
            content = [{"token_id": index, "logprob": logprob, "rank": 1, "top_logprobs": []} for index, logprob in new]
            choice = {
                "index": 0,
                "token_ids": so_far.ids[seen:],
                "logprobs": {"content": content},
                "finish_reason": so_far.finish,
                "stop_reason": None,
                "weight_versions": so_far.spans() if so_far.finish else None,
            }
            if self.returns_masks:
                choice["sampling_mask"] = [left(index) for index in so_far.ids[seen:]]
            if self.returns_experts and so_far.finish:
                read = [*prompt, *so_far.ids][asked.get("routed_experts_prompt_start", 0) : -1]
                choice["routed_experts"] = npy(routed(read))
            seen = len(so_far.ids)
            yield {"request_id": "generate-tokens-1", "usage": None, "output_mode": "tokens", "choices": [choice]}

    async def _completed(self, asked: Json) -> AsyncIterator[Json]:
        async for event in self._tokens(asked):
            choice = event["choices"][0]
            content = choice["logprobs"]["content"]
            logprobs = {
                "tokens": [f"token_id:{scored['token_id']}" for scored in content],
                "token_logprobs": [scored["logprob"] for scored in content],
            }
            yield {"choices": [{**choice, "logprobs": logprobs, "weight_versions": None, "text": ""}]}

    async def _weight_info(self, _: web.Request) -> web.Response:
        return web.json_response({"weight_version": self.version})

    async def _update_weight_version(self, request: web.Request) -> web.Response:
        self.version = (await request.json())["new_version"]
        return web.json_response({"success": True, "new_version": self.version})

    async def _pause(self, request: web.Request) -> web.Response:
        self.pause(keep=request.query["mode"] == "keep")
        return web.json_response({"status": "paused"})

    async def _resume(self, _: web.Request) -> web.Response:
        self.resume()
        return web.json_response({"status": "resumed"})

    async def _is_paused(self, _: web.Request) -> web.Response:
        return web.json_response({"is_paused": self.paused})

    async def _ok_json(self, _: web.Request) -> web.Response:
        return web.json_response({"success": True})


def _refused(message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "Bad Request", "code": 400}}, status=400)
