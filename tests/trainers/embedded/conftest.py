"""A model of random weights with the tokenizer of bytes, as a directory of Hugging Face's layout."""

import json
from pathlib import Path

import pytest

from tests.trainers.embedded.sampling_trainer import write_tokenizer


@pytest.fixture
def hf_directory(tmp_path: Path) -> Path:
    """Its weights are not there: who wants some makes them of its configuration."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_tokenizer(folder)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 258}
    (folder / "config.json").write_text(json.dumps({**model, **shape, "max_position_embeddings": 512}))
    return folder
