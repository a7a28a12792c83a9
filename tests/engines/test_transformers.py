"""The transformers engine, where torch is installed: its oracles are the embedded engine and the models themselves."""
# ruff: noqa: E402  what needs torch is imported where there is one

from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
pytest.importorskip("transformers", reason="the torch extra is not installed")
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Glm4MoeConfig,
    GPT2Config,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    Phi3Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from envhub.contracts.engine import EngineChunk, EngineOptions, EngineRequest, Model, ServedEngine
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import SamplingMask
from envhub.contracts.turn import Sampling
from envhub.engines import embedded, transformers
from envhub.engines.in_process import torch_decoder
from envhub.engines.in_process.torch_check import check_model
from envhub.engines.transformers import TransformersEngine
from envhub.errors import EngineFault, UsageError
from envhub.testing.engine_suite import ServedEngineSuite, collect, ids_of, request_of
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from tests.engines.hf_directory import write_hf_directory

pytestmark = [pytest.mark.anyio, pytest.mark.engines]

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
GPT2 = {"vocab_size": 300, "n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}
PROMPT = "a fox told stories. " * 3


def tiny(config: Any = None, seed: int = 0) -> Any:
    """A model of random weights."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config or Qwen3Config(**SIZES)).eval()


def model_of(network: Any, max_batch: int = 4) -> Model:
    check_model(network)
    return Model("tiny", TransformersEngine(network, max_batch=max_batch), ByteTokenizer(), CHATML_TEMPLATE)


def one_pass(network: Any, ids: list[int]) -> np.ndarray:
    """float64 [tokens, vocabulary]: log probabilities with the model's own attention."""
    ours = network.config._attn_implementation
    network.set_attn_implementation("eager")
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([ids])).logits[0].double()
    network.set_attn_implementation(ours)
    return torch.log_softmax(logits, -1).numpy()


def error_of(network: Any, request: EngineRequest, chunks: list[EngineChunk], start: int = 0) -> float:
    """The most that a logprob from output token `start` on differs from one pass over prompt and output, nats."""
    prompt, output = request.prompt_ids.tolist(), ids_of(chunks)
    expected = one_pass(network, prompt + output)[len(prompt) - 1 : -1][np.arange(len(output)), output]
    recorded = np.concatenate([chunk.logprobs for chunk in chunks])
    return float(np.abs(recorded - expected)[start:].max())


def continued(request: EngineRequest, chunks: list[EngineChunk]) -> EngineRequest:
    """The next turn of a conversation."""
    prompt, output = request.prompt_ids, np.array(ids_of(chunks), np.int32)
    return replace(request, prompt_ids=np.concatenate([prompt, output, prompt[:20]]))


async def together(model: Model, requests: list[EngineRequest]) -> list[list[EngineChunk]]:
    answers: dict[str, list[EngineChunk]] = {}

    async def ask(request: EngineRequest) -> None:
        answers[request.request_id] = await collect(model, request)

    async with anyio.create_task_group() as tasks:
        for request in requests:
            tasks.start_soon(ask, request)
    return [answers[request.request_id] for request in requests]


@pytest.fixture(scope="module")
def directory(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hf")
    write_hf_directory(tiny_gguf, path)
    return path


class TestConformance(ServedEngineSuite):
    @pytest.fixture
    def model(self, directory: Path) -> Model:
        return transformers.load(EngineOptions(weights=str(directory), max_batch=4))


@pytest.mark.parametrize("form", ["directory", "gguf"])
async def test_it_samples_what_the_embedded_engine_samples(form: str, tiny_gguf: Path, directory: Path) -> None:
    oracle = embedded.load(EngineOptions(weights=str(tiny_gguf)))
    weights = directory if form == "directory" else tiny_gguf
    model = transformers.load(EngineOptions(weights=str(weights), max_batch=4))
    requests = [request_of(oracle, PROMPT + "abc" * seed, seed=seed) for seed in range(8)]
    for expected, found in zip(await together(oracle, requests), await together(model, requests), strict=True):
        assert ids_of(found) == ids_of(expected)
        assert np.allclose(
            np.concatenate([chunk.logprobs for chunk in found]),
            np.concatenate([chunk.logprobs for chunk in expected]),
            atol=1e-4,
        )
    await oracle.engine.close()
    await model.engine.close()


@pytest.mark.parametrize(
    "config",
    [Qwen3Config(**SIZES), MistralConfig(**SIZES, sliding_window=16), GPT2Config(**GPT2)],
    ids=["qwen3", "mistral with a sliding window", "gpt2"],
)
async def test_recorded_logprobs_are_those_of_one_pass(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_decoder, "CPU_PREFILL", 32)  # prompts enter in pieces
    network = tiny(config)
    model = model_of(network)
    texts = [PROMPT + text * count for count in range(6) for text in ("abc", "xyz")]  # two of each length
    requests = [request_of(model, text, seed=seed) for seed, text in enumerate(texts)]
    turns = await together(model, requests)
    assert max(error_of(network, *turn) for turn in zip(requests, turns, strict=True)) < 1e-4
    next_turns = [
        replace(
            request,
            prompt_ids=np.concatenate([request.prompt_ids, np.array(ids_of(turn), np.int32), request.prompt_ids]),
        )
        for request, turn in zip(requests, turns, strict=True)
    ]
    later = await together(model, next_turns)
    assert max(error_of(network, *turn) for turn in zip(next_turns, later, strict=True)) < 1e-4
    await model.engine.close()


async def test_logprobs_of_truncated_sampling_are_those_among_the_ids_of_its_mask() -> None:
    network = tiny()
    model = model_of(network)
    cut = [{"top_p": 0.6}, {"top_k": 5, "temperature": 0.7}, {"min_p": 0.2}, {"top_k": 9, "top_p": 0.9}, {}]
    requests = [request_of(model, PROMPT + "abc" * seed, seed=seed) for seed in range(len(cut))]
    requests = [
        replace(request, sampling=replace(request.sampling, **how)) for request, how in zip(requests, cut, strict=True)
    ]
    turns = await together(model, requests)  # in one batch
    assert [chunk.mask for chunk in turns[-1]] == [None] * len(turns[-1])
    sizes = []
    for request, chunks in zip(requests[:-1], turns[:-1], strict=True):
        prompt, output = request.prompt_ids.tolist(), ids_of(chunks)
        logits = one_pass(network, prompt + output)[len(prompt) - 1 : -1] / request.sampling.temperature
        mask = SamplingMask.joined([chunk.mask for chunk in chunks if chunk.mask])
        expected = [
            row[id] - np.logaddexp.reduce(row[mask.at(token)])
            for token, (row, id) in enumerate(zip(logits, output, strict=True))
        ]
        recorded = np.concatenate([chunk.logprobs for chunk in chunks])
        assert np.abs(recorded - expected).max() < 1e-4
        sizes += np.diff(mask.offsets).tolist()
    assert 1 <= min(sizes) < max(sizes) < 300
    await model.engine.close()


def routed_in_one_pass(network: Any, ids: list[int]) -> np.ndarray:
    """[tokens, layers, k], with the model's own attention: what its layers gave to their experts to compute."""
    ours = network.config._attn_implementation
    network.set_attn_implementation("eager")
    given: list[Any] = []
    layers = [module for module in network.modules() if type(module).__name__.endswith("Experts")]
    hooks = [layer.register_forward_pre_hook(lambda *called: given.append(called[1][1])) for layer in layers]
    with torch.no_grad():
        network(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    network.set_attn_implementation(ours)
    assert len(given) == SIZES["num_hidden_layers"]
    return torch.stack(given, dim=1).numpy()


MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}


@pytest.mark.parametrize(
    "config",
    [
        Qwen3MoeConfig(**SIZES, **MOE),
        MixtralConfig(**SIZES, num_local_experts=8, num_experts_per_tok=2),
        OlmoeConfig(**{name: size for name, size in SIZES.items() if name != "head_dim"}, num_experts=8),
        Glm4MoeConfig(**SIZES, n_routed_experts=8, num_experts_per_tok=2, n_group=2, first_k_dense_replace=0),
    ],
    ids=lambda config: config.model_type,
)
async def test_experts_of_every_token_that_was_read_are_those_of_one_pass(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_decoder, "CPU_PREFILL", 32)  # prompts enter in pieces
    network = tiny(config)
    model = model_of(network)
    requests = [request_of(model, PROMPT + "abc" * seed, seed=seed) for seed in range(6)]
    turns = await together(model, requests)
    later = [
        replace(continued(request, turn), routed_from=len(request.prompt_ids) + len(ids_of(turn)) - 1)
        for request, turn in zip(requests, turns, strict=True)
    ]
    turns += await together(model, later)  # what they share with the first turns is not computed again
    for request, chunks in zip([*requests, *later], turns, strict=True):
        assert all(chunk.experts is None for chunk in chunks[:-1])
        read = [*request.prompt_ids.tolist(), *ids_of(chunks)][:-1]
        found = chunks[-1].experts
        assert found is not None
        assert found.dtype == np.uint8
        assert found.tolist() == routed_in_one_pass(network, read)[request.routed_from :].tolist()
    await model.engine.close()


async def test_bfloat16_logprobs_are_of_what_was_sampled(directory: Path) -> None:
    model = transformers.load(EngineOptions(weights=str(directory), dtype="bfloat16"))
    assert isinstance(model.engine, TransformersEngine)
    network = model.engine._model
    assert network.dtype == torch.bfloat16
    request = request_of(model)
    chunks = await collect(model, request)
    assert error_of(network, request, chunks) < 0.3
    await model.engine.close()


async def test_new_weights_count_from_the_next_token_on() -> None:
    old, new = tiny(seed=1), tiny(seed=2)
    model = model_of(tiny(seed=1))
    engine = model.engine
    assert isinstance(engine, TransformersEngine)
    request = request_of(model, max_tokens=150)
    chunks = []
    async for chunk in engine.generate(request):
        if not chunks:
            await engine.load_weights(new.state_dict(), PolicyVersion(5))
        chunks.append(chunk)
    assert [*dict.fromkeys(chunk.policy_version for chunk in chunks)] == [0, 5]
    change = sum(len(chunk.ids) for chunk in chunks if chunk.policy_version == 0)
    assert error_of(new, request, chunks, start=change) < 1e-4
    earlier = [chunk for chunk in chunks if chunk.policy_version == 0]
    assert error_of(old, request, earlier) < 1e-4
    again = await collect(model, request)
    assert error_of(new, request, again) < 1e-4  # of the prompt's old cache nothing is left
    assert await engine.version() == 5
    await engine.close()


async def test_weights_of_another_model_are_refused_whole() -> None:
    network = tiny()
    model = model_of(network)
    assert isinstance(model.engine, TransformersEngine)
    request = request_of(model)
    short = {name: tensor for name, tensor in tiny(seed=3).state_dict().items() if "layers.1" not in name}
    with pytest.raises(EngineFault, match=r"model.layers.1.* do not fit"):
        await model.engine.load_weights(short, PolicyVersion(1))
    wide = tiny(Qwen3Config(**SIZES | {"intermediate_size": 64})).state_dict()
    with pytest.raises(EngineFault, match=r"mlp.* do not fit"):
        await model.engine.load_weights(wide, PolicyVersion(1))
    chunks = await collect(model, request)
    assert {chunk.policy_version for chunk in chunks} == {0}
    assert error_of(network, request, chunks) < 1e-4
    await model.engine.close()


async def test_it_reloads_a_directory_as_a_served_engine_does(directory: Path, tmp_path: Path) -> None:
    model = transformers.load(EngineOptions(weights=str(directory)))
    engine = model.engine
    assert isinstance(engine, ServedEngine)
    assert await engine.version() == 0
    changed = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    changed.save_pretrained(tmp_path)
    await engine.reload(str(tmp_path), PolicyVersion(7))
    assert await engine.version() == 7
    request = request_of(model)
    assert error_of(changed, request, await collect(model, request)) < 1e-4
    with pytest.raises(EngineFault, match="no weights at"):
        await engine.reload(str(tmp_path / "absent"), PolicyVersion(8))
    await engine.close()


async def test_a_pause_holds_what_runs_and_what_comes() -> None:
    model = model_of(tiny())
    engine = model.engine
    assert isinstance(engine, TransformersEngine)
    undisturbed = await collect(model, request_of(model, max_tokens=60))
    answers: list[list[EngineChunk]] = []

    async def ask() -> None:
        answers.append(await collect(model, request_of(model, max_tokens=60)))

    await engine.pause(keep=True)
    await engine.pause(keep=True)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        await engine.health()
        await anyio.sleep(0.05)
        assert not answers
        await engine.resume()
        await engine.resume()
    assert [ids_of(answer) for answer in answers] == [ids_of(undisturbed)] * 2
    await engine.close()


async def test_closing_a_paused_engine_ends_what_it_holds() -> None:
    model = model_of(tiny())
    assert isinstance(model.engine, TransformersEngine)
    await model.engine.pause(keep=True)

    async def ask() -> None:
        with pytest.raises(EngineFault, match="closed"):
            await collect(model, request_of(model))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await anyio.sleep(1.2)  # longer than its thread lives without work
        await model.engine.close()
    with pytest.raises(EngineFault, match="closed"):
        await model.engine.health()


def test_models_whose_attention_is_more_than_the_engines_are_refused() -> None:
    gemma = Gemma2Config(**SIZES, attn_logit_softcapping=20.0)
    with pytest.raises(UsageError, match=r"Gemma2ForCausalLM can't run with this engine's attention.*softcap"):
        check_model(tiny(gemma))
    sizes = {name: value for name, value in SIZES.items() if name != "head_dim"}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "long_factor": [2.0] * 4, "short_factor": [1.0] * 4}
    phi = Phi3Config(**sizes, rope_parameters=rope, original_max_position_embeddings=64)
    with pytest.raises(UsageError, match="RoPE of type longrope"):
        check_model(tiny(phi))


def test_a_model_that_answers_otherwise_than_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny()
    attention = torch_decoder.PackedStep.attend
    monkeypatch.setattr(torch_decoder.PackedStep, "attend", lambda *all: 0.9 * attention(*all))
    with pytest.raises(UsageError, match="Qwen3ForCausalLM differs from itself by"):
        check_model(network)


def test_load_names_what_is_wrong(tmp_path: Path, directory: Path) -> None:
    for options, message in (
        (EngineOptions(max_batch=0), "max_batch is 0"),
        (EngineOptions(dtype="float8"), "dtype is 'float8'"),
        (EngineOptions(device="cuda:7"), "device is 'cuda:7'; torch finds cpu"),
        (EngineOptions(weights=str(tmp_path / "absent")), "no directory"),
    ):
        with pytest.raises(UsageError, match=message):
            transformers.load(options)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((directory / name).read_text())
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="transformers can't read"):
        transformers.load(EngineOptions(weights=str(tmp_path)))


async def test_smollm2_answers_from_its_gguf(smollm2_gguf: Path) -> None:
    model = transformers.load(EngineOptions(weights=str(smollm2_gguf)))
    special, encode = model.tokenizer.special_ids, model.tokenizer.encode
    start, end = special["<|im_start|>"], special["<|im_end|>"]
    question = [start, *encode("user\nWhat is the capital of France?"), end, *encode("\n")]
    prompt = np.array([*question, start, *encode("assistant\n")], np.int32)
    sampling = Sampling(temperature=0.0, max_tokens=16, seed=1)
    chunks = await collect(model, EngineRequest("r", prompt, sampling, model.tokenizer.stop_ids))
    assert model.tokenizer.decode(ids_of(chunks)) == "The capital of France is Paris.<|im_end|>"
    assert all((chunk.logprobs == 0).all() for chunk in chunks)
    await model.engine.close()
