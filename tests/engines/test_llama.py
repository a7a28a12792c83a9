"""Oracles of the forward pass: a plain float64 one over the file's own tensors, transformers' numbers, and itself."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from envhub.contracts.engine import EngineRequest
from envhub.contracts.turn import Ids, Sampling
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import LlamaWeights, read_weights
from envhub.engines.in_process.kv_cache import KVCache
from envhub.engines.in_process.llama import Llama
from envhub.engines.in_process.products import Products
from envhub.engines.in_process.scheduler import Generation, Scheduler, Token
from envhub.tokens.gguf_tokenizer import open_gguf

GOLDEN = Path(__file__).parent / "smollm2_golden.json"


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path) -> Llama:
    return Llama(read_weights(open_gguf(tiny_gguf)), Products(2))


@pytest.fixture(scope="module")
def smollm2(smollm2_weights: LlamaWeights) -> Llama:
    return Llama(smollm2_weights, Products(2))


def log_softmax(logits: np.ndarray) -> np.ndarray:
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def all_logprobs(model: Llama, ids: Ids) -> np.ndarray:
    """[tokens, vocabulary], computed in one pass."""
    cache = KVCache(model.weights.shape, len(ids))
    return log_softmax(model.logits(model.hidden([Segment(cache, ids)])))


def reference_logprobs(path: Path, ids: Ids) -> np.ndarray:
    """The llama architecture, spelled out: float64, a position and a head at a time, RoPE on neighbouring pairs."""
    reader = gguf.GGUFReader(path)
    tensors = {t.name.removesuffix(".weight"): t.data.astype(np.float64) for t in reader.tensors}
    heads, kv_heads, layers, base = 4, 2, 2, 10_000.0

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean() + 1e-5) * tensors[name]

    def rope(x: np.ndarray, position: int) -> np.ndarray:
        angles = position * base ** (-np.arange(0, len(x), 2) / len(x))
        turned = (x[0::2] + 1j * x[1::2]) * np.exp(1j * angles)
        return np.stack([turned.real, turned.imag], axis=1).ravel()

    stream = [tensors["token_embd"][index] for index in ids]
    for layer in (f"blk.{index}." for index in range(layers)):
        inputs = [norm(x, layer + "attn_norm") for x in stream]
        query, key, value = (
            [np.split(tensors[layer + name] @ x, count) for x in inputs]
            for name, count in (("attn_q", heads), ("attn_k", kv_heads), ("attn_v", kv_heads))
        )
        for position in range(len(ids)):
            mixed = []
            for head in range(heads):
                group = head * kv_heads // heads
                asked = rope(query[position][head], position)
                scores = np.array([asked @ rope(key[at][group], at) for at in range(position + 1)]) / np.sqrt(
                    len(asked)
                )
                weights = np.exp(scores) / np.exp(scores).sum()
                mixed.append(sum(w * value[at][group] for at, w in enumerate(weights)))
            stream[position] = stream[position] + tensors[layer + "attn_output"] @ np.concatenate(mixed)
        for position, x in enumerate(stream):
            y = norm(x, layer + "ffn_norm")
            gate, up = tensors[layer + "ffn_gate"] @ y, tensors[layer + "ffn_up"] @ y
            stream[position] = x + tensors[layer + "ffn_down"] @ (gate / (1 + np.exp(-gate)) * up)
    return log_softmax(np.array([tensors["token_embd"] @ norm(x, "output_norm") for x in stream]))


def test_the_forward_pass_agrees_with_the_architecture_spelled_out(tiny: Llama, tiny_gguf: Path) -> None:
    ids = np.random.default_rng(0).integers(3, 260, 40).astype(np.int32)
    assert np.abs(all_logprobs(tiny, ids) - reference_logprobs(tiny_gguf, ids)).max() < 1e-4


@pytest.mark.engines
def test_the_forward_pass_agrees_with_transformers(smollm2: Llama) -> None:
    golden = json.loads(GOLDEN.read_text())
    ids = np.array(golden["ids"], np.int32)
    logprobs = all_logprobs(smollm2, ids)
    chosen = logprobs[np.arange(len(ids) - 1), ids[1:]]
    assert np.abs(chosen - golden["logprobs"]).max() < 1e-4


@pytest.mark.parametrize("weights", ["tiny", pytest.param("smollm2", marks=pytest.mark.engines)])
@pytest.mark.parametrize("prefix", [0, 50])
def test_recorded_logprobs_are_those_of_one_pass_over_prompt_and_output(
    weights: str, prefix: int, request: pytest.FixtureRequest
) -> None:
    model: Llama = request.getfixturevalue(weights)
    scheduler = Scheduler(model, max_batch=3)
    random = np.random.default_rng(1)
    shared = random.integers(3, 250, prefix)
    generations = []
    outputs: list[list[Token]] = []
    for seed in range(4):
        prompt = np.concatenate([shared, random.integers(3, 250, 20 + 30 * seed)]).astype(np.int32)
        outputs.append([])
        sampling = Sampling(temperature=1.0, max_tokens=20, seed=seed)
        generations.append(Generation(EngineRequest("r", prompt, sampling, frozenset()), outputs[-1].append))
        scheduler.add(generations[-1])
    while not scheduler.idle:
        scheduler.step()
    for generation, output in zip(generations, outputs, strict=True):
        prompt = generation.request.prompt_ids
        ids = np.array([token.id for token in output], np.int32)
        logprobs = all_logprobs(model, np.concatenate([prompt, ids]))[len(prompt) - 1 : -1]
        recorded = np.array([token.logprob for token in output])
        assert np.abs(recorded - logprobs[np.arange(len(ids)), ids]).max() < 1e-4


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 16, 33])
@pytest.mark.parametrize("outputs", [7, 48, 80])
def test_products_agree_with_numpys(threads: int, rows: int, outputs: int) -> None:
    random = np.random.default_rng(0)
    x, w = random.random((rows, 24), np.float32), random.random((outputs, 24), np.float32)
    products = Products(threads)
    assert np.allclose(products.multiply(x, w), x @ w.T, rtol=1e-6)
    products.close()
    products.close()
