"""A llama GGUF as the directory that transformers, vLLM and SGLang read, in fp32 and with the GGUF's own tokenizer.

    python hf_directory.py WEIGHTS.gguf DIRECTORY

transformers' reader of GGUF files leaves out a step of SmolLM2's tokenizer, and needs accelerate.
"""

import json
import sys
from pathlib import Path

import numpy as np
from gguf import GGUFReader
from safetensors.numpy import save_file

from envhub.engines.in_process.gguf_to_hf import hf_config, hf_tensors
from envhub.engines.in_process.gguf_weights import LlamaWeights, read_weights
from envhub.tokens.gguf_tokenizer import GgufTokenizer, open_gguf, read_tokenizer


def write_hf_directory(gguf: Path, directory: Path) -> None:
    """Writes what the GGUF holds; nothing is left out."""
    directory.mkdir(parents=True, exist_ok=True)
    reader = open_gguf(gguf)
    weights = read_weights(reader)
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in hf_tensors(weights)}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    _write(directory / "config.json", _config(reader, weights))
    tokenizer, chat_template = read_tokenizer(reader)
    assert isinstance(tokenizer, GgufTokenizer)
    _write_tokenizer(tokenizer, chat_template, directory)


def _config(reader: GGUFReader, weights: LlamaWeights) -> dict[str, object]:
    ends = {name: reader.get_field(f"tokenizer.ggml.{name}") for name in ("bos_token_id", "eos_token_id")}
    return hf_config(weights) | {name: field.contents() for name, field in ends.items() if field is not None}


def _write_tokenizer(tokenizer: GgufTokenizer, chat_template: str, directory: Path) -> None:
    pipeline = json.loads(tokenizer._pipeline.to_str())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pipeline["added_tokens"] = [
        {"id": index, "content": text, **flags} for text, index in tokenizer.special_ids.items()
    ]
    _write(directory / "tokenizer.json", pipeline)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "chat_template": chat_template,
        "clean_up_tokenization_spaces": False,
    }
    _write(directory / "tokenizer_config.json", settings)


def _write(path: Path, document: dict[str, object]) -> None:
    path.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    write_hf_directory(Path(sys.argv[1]), Path(sys.argv[2]))
