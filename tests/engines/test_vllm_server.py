"""VllmEngine over a real vLLM server, which `.ci/vllm start` starts; its folder is named by ENVHUB_VLLM."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from anyio.lowlevel import checkpoint
from numpy.typing import NDArray

from envhub.contracts.engine import EngineChunk, EngineOptions, EngineRequest, Model, ServedEngine
from envhub.contracts.ids import TRAINED, PolicyVersion, RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import PolicyInput
from envhub.contracts.turn import Sampling, Turn
from envhub.engines import vllm
from envhub.engines.over_http.connection import HttpServer
from envhub.engines.vllm import load
from envhub.errors import EngineFault, UnknownName
from envhub.testing.engine_suite import ServedEngineSuite, collect, ids_of, listening, request_of, versions_of
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.ledger import Ledger
from envhub.tokens.policy import TokenPolicy

pytestmark = [pytest.mark.anyio, pytest.mark.vllm, pytest.mark.timeout(600)]  # a busy machine takes its time

EXACT = 1e-4  # nats, mean: what fp32 kernels in another order differ by is some 5e-6


@pytest.fixture(scope="module")
def folder() -> Path:
    named = os.environ.get("ENVHUB_VLLM")
    if not named:
        pytest.skip("no vLLM server: .ci/vllm start DIR, then set ENVHUB_VLLM to DIR")
    return Path(named)


@pytest.fixture(scope="module")
def options(folder: Path) -> EngineOptions:
    return EngineOptions(url=(folder / "servers").read_text().split()[0], tokenizer=str(folder / "model"))


@pytest.fixture
async def model(options: EngineOptions) -> AsyncIterator[Model]:
    model = load(options)
    yield model
    await model.engine.close()


@pytest.fixture
def engine(model: Model) -> ServedEngine:
    assert isinstance(model.engine, ServedEngine)
    return model.engine


@pytest.fixture
async def changed(folder: Path, engine: ServedEngine) -> AsyncIterator[Path]:
    """The weights after a step of training: other ones, that is. The server has its first ones back afterwards."""
    from safetensors.numpy import load_file, save_file

    directory = folder / "changed"
    shutil.copytree(folder / "model", directory, dirs_exist_ok=True)
    tensors = load_file(directory / "model.safetensors")
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * np.float32(1.2)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    yield directory
    await engine.reload(str(folder / "model"), PolicyVersion(await engine.version() + 1))
    shutil.rmtree(directory)


@lru_cache(maxsize=1)
def causal_lm(weights: Path) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.set_num_threads(1)  # the server has threads enough
    return transformers.AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32)


def recomputed(weights: Path, request: EngineRequest, ids: list[int]) -> NDArray[np.float32]:
    """The logprob that transformers gives each of `ids` after the prompt, in fp32."""
    torch = pytest.importorskip("torch")
    model = causal_lm(weights)
    prompt = request.prompt_ids.tolist()
    with torch.no_grad():
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / request.sampling.temperature
    logprobs = logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None])[:, 0]
    return np.asarray(logprobs.numpy(), np.float32)


def logprobs_of(chunks: list[EngineChunk]) -> NDArray[np.float32]:
    return np.concatenate([chunk.logprobs for chunk in chunks])


def difference(weights: Path, request: EngineRequest, chunks: list[EngineChunk]) -> NDArray[np.float32]:
    """Of each recorded logprob from the recomputed one."""
    return np.abs(logprobs_of(chunks) - recomputed(weights, request, ids_of(chunks)))


class TestConformance(ServedEngineSuite):
    @pytest.fixture
    def model(self, options: EngineOptions) -> Model:
        return load(options)


async def test_a_server_without_scale_out_gives_the_same_tokens(
    model: Model, options: EngineOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(model)
    chunks = await collect(model, request)
    monkeypatch.setattr(vllm, "GENERATE", "/no/such/endpoint")
    completing = load(options)
    completed = await collect(completing, request)
    await completing.engine.close()
    assert ids_of(completed) == ids_of(chunks)
    assert logprobs_of(completed).tolist() == logprobs_of(chunks).tolist()
    assert versions_of(completed) == versions_of(chunks)


async def test_recorded_logprobs_are_those_that_transformers_computes(model: Model, folder: Path) -> None:
    requests = [replace(request_of(model, max_tokens=110, seed=seed), stop_ids=frozenset()) for seed in range(5)]
    answers: dict[str, list[EngineChunk]] = {}

    async def ask(request: EngineRequest) -> None:
        answers[request.request_id] = await collect(model, request)

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(ask, request)
    differences = np.concatenate(
        [difference(folder / "model", request, answers[request.request_id]) for request in requests]
    )
    assert len(differences) >= 500
    assert differences.mean() <= EXACT


async def test_logprobs_follow_the_temperature(model: Model, folder: Path) -> None:
    request = request_of(model, max_tokens=32)
    cold = replace(request, sampling=replace(request.sampling, temperature=0.6))
    chunks = await collect(model, cold)
    assert difference(folder / "model", cold, chunks).mean() <= EXACT


async def test_greedy_sampling_is_certain(model: Model) -> None:
    request = request_of(model, max_tokens=8)
    chunks = await collect(model, replace(request, sampling=replace(request.sampling, temperature=0.0)))
    assert (logprobs_of(chunks) == 0).all()


async def test_each_tokens_logprob_is_that_of_the_weights_of_its_version(
    model: Model, engine: ServedEngine, folder: Path, changed: Path
) -> None:
    old = await engine.version()
    new = PolicyVersion(old + 1)
    request = replace(request_of(model, max_tokens=120), stop_ids=frozenset())
    async with listening(model, request) as chunks:
        await engine.reload(str(changed), new)
    (first, border), (second, _) = versions_of(chunks)
    assert (first, second) == (old, new)
    from_old, from_new = difference(folder / "model", request, chunks), difference(changed, request, chunks)
    assert from_old[:border].mean() <= EXACT
    assert from_new[border:].mean() <= EXACT  # as if the new weights had read it all
    assert from_old[border:].mean() > 100 * EXACT

    await engine.reload("", PolicyVersion(new + 1))  # from where it had its weights last
    chunks = await collect(model, request)
    assert versions_of(chunks) == [(new + 1, 120)]
    assert difference(changed, request, chunks).mean() <= EXACT


async def test_a_turn_has_a_span_for_each_version(model: Model, engine: ServedEngine) -> None:
    old = await engine.version()
    turns: list[Turn] = []
    sampling = Sampling(max_tokens=150, seed=3)
    endless = replace(model, tokenizer=_Endless(model.tokenizer))
    policy = TokenPolicy(
        endless,
        ChatRenderer.of(endless),
        Ledger(),
        policy_id=TRAINED,
        rollout_id=RolloutId("run-0-0-0"),
        trainable=True,
        sampling=sampling,
        seed=1,
        record=turns.append,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(policy.act, PolicyInput((Message.user("Tell me a story."),)))
        await anyio.sleep(2.0)  # some tokens
        await engine.reload("", PolicyVersion(old + 1))
    (turn,) = turns
    assert [span.policy_version for span in turn.spans] == [old, old + 1]
    assert (turn.spans[0].start, turn.spans[-1].end) == (0, 150)
    assert turn.spans[0].end == turn.spans[1].start


async def test_hanging_up_frees_the_servers_slot(model: Model, options: EngineOptions) -> None:
    server = HttpServer(options.url)

    async def running() -> bool:
        lines = (await server.get("/metrics")).decode().splitlines()
        return any(line.startswith("vllm:num_requests_running") and not line.endswith(" 0.0") for line in lines)

    async with aclosing(model.engine.generate(replace(request_of(model, max_tokens=400), stop_ids=frozenset()))) as it:
        await anext(it)
        assert await running()
    with anyio.fail_after(10):
        while await running():
            await checkpoint()
    await server.close()


async def test_an_adapter_is_loaded_in_place(
    options: EngineOptions, engine: ServedEngine, folder: Path, tmp_path: Path
) -> None:
    server = HttpServer(options.url)
    paths = [write_adapter(folder / "model", folder / f"adapter-{seed}", seed) for seed in (1, 2)]
    await server.post("/v1/load_lora_adapter", {"lora_name": "tuned", "lora_path": str(paths[0])})
    tuned = load(replace(options, model="tuned"))
    try:
        request = request_of(tuned, max_tokens=32)
        for path in paths:
            version = PolicyVersion(await engine.version() + 1)
            await tuned.engine.reload(str(path), version)
            chunks = await collect(tuned, request)
            merged = merge_adapter(folder / "model", path, tmp_path / path.name)
            assert [of for of, _ in versions_of(chunks)] == [version]
            assert difference(merged, request, chunks).mean() <= EXACT
        with pytest.raises(EngineFault, match="name the directory"):
            await tuned.engine.reload("", version)
    finally:
        await server.post("/v1/unload_lora_adapter", {"lora_name": "tuned"})
        await tuned.engine.close()
        await server.close()
    with pytest.raises(UnknownName, match="no model on the server 'tuned'"):
        load(replace(options, model="tuned"))


async def test_a_prompt_of_unknown_ids_is_the_requests_own_fault(model: Model) -> None:
    request = replace(request_of(model), prompt_ids=np.array([10**6], np.int32))
    with pytest.raises(EngineFault, match="out of vocabulary") as caught:
        await collect(model, request)
    assert not caught.value.retryable


class _Endless:
    """A tokenizer whose messages never end."""

    stop_ids = frozenset[int]()

    def __init__(self, tokenizer: object) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)


def _shape(model: Path) -> tuple[int, int]:
    config = json.loads((model / "config.json").read_text())
    return config["hidden_size"], config["num_hidden_layers"]


def write_adapter(model: Path, adapter: Path, seed: int) -> Path:
    """A random LoRA of rank 8 on all query projections."""
    from safetensors.numpy import save_file

    width, layers = _shape(model)
    random = np.random.default_rng(seed)
    tensors = {
        f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight": random.normal(
            scale=0.05, size=shape
        ).astype(np.float32)
        for layer in range(layers)
        for part, shape in (("A", (8, width)), ("B", (width, 8)))
    }
    adapter.mkdir(exist_ok=True)
    save_file(tensors, adapter / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    return adapter


def merge_adapter(model: Path, adapter: Path, merged: Path) -> Path:
    """The whole weights that an adapter makes of a model."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, merged)
    tensors = load_file(model / "model.safetensors")
    parts = load_file(adapter / "adapter_model.safetensors")
    for layer in range(_shape(model)[1]):
        name = f"model.layers.{layer}.self_attn.q_proj"
        a, b = (parts[f"base_model.model.{name}.lora_{part}.weight"] for part in "AB")
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"] + b @ a
    save_file(tensors, merged / "model.safetensors", metadata={"format": "pt"})
    return merged
