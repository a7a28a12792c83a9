"""TransformersEngine: a causal language model of transformers in this process, on its GPU or else its CPU."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import torch
from anyio import to_thread
from transformers import AutoModelForCausalLM, LlamaConfig

from envhub.contracts.engine import EngineOptions, Model
from envhub.contracts.ids import PolicyVersion
from envhub.engines.embedded import default_weights
from envhub.engines.in_process.engine import InProcessEngine
from envhub.engines.in_process.gguf_to_hf import hf_config, hf_tensors
from envhub.engines.in_process.gguf_weights import read_weights
from envhub.engines.in_process.torch_check import check_model
from envhub.engines.in_process.torch_decoder import TorchDecoder
from envhub.engines.in_process.torch_slots import TorchCache
from envhub.errors import Boundary, EngineFault, Fault, UsageError, boundary
from envhub.tokens.gguf_tokenizer import load_tokenizer, open_gguf
from envhub.tokens.hf_tokenizer import TokenizerFiles, open_directory

DTYPES = {"": torch.float32, "float32": torch.float32, "bfloat16": torch.bfloat16}


def load(options: EngineOptions) -> Model:
    """A model from `options.weights`, a directory of Hugging Face's layout or a .gguf file; SmolLM2-135M-Instruct by
    default. `options.dtype` float32 or bfloat16: what it computes in; `options.device`: and where.

    Raises:
        UsageError: no such weights, or some that this engine can't run; or no such device.
    """
    if options.max_batch < 1:
        raise UsageError(f"max_batch is {options.max_batch}; it must be at least 1")
    if options.dtype not in DTYPES:
        raise UsageError(f"dtype is '{options.dtype}'; this engine computes in float32 or bfloat16")
    device = device_of(options.device)
    path = Path(options.weights) if options.weights else default_weights()
    files = TokenizerFiles(*load_tokenizer(path)) if path.suffix == ".gguf" else open_directory(path)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        with boundary(Boundary.ENGINE):
            model = read_model(path, DTYPES[options.dtype], device)
    except Fault as fault:
        raise UsageError(f"transformers can't read '{path}' ({fault}); give a causal language model") from fault
    check_model(model)
    engine = TransformersEngine(model, max_batch=options.max_batch, weights=str(path))
    name = path.stem if path.suffix == ".gguf" else path.name
    return Model(
        name,
        engine,
        files.tokenizer,
        files.chat_template,
        template_variables=files.template_variables,
        call_form=options.call_form,
    )


def device_of(name: str) -> torch.device:
    """The device of that name; "": a GPU where there is one, else the CPU.

    Raises:
        UsageError: it is not here.
    """
    gpus = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{index}" for index in range(gpus))]
    if name and name not in known:
        raise UsageError(f"device is '{name}'; torch finds {', '.join(known)} here")
    return torch.device(name or ("cuda" if gpus else "cpu"))


def read_model(path: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The model of a directory or a .gguf file."""
    if path.suffix == ".gguf":
        return _read_gguf(path).to(device, dtype)
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True).to(device).eval()


def _read_gguf(path: Path) -> Any:
    """As our own reader dequantises it; transformers' leaves out tensors that it doesn't know."""
    weights = read_weights(open_gguf(path))
    model = AutoModelForCausalLM.from_config(LlamaConfig(**hf_config(weights))).eval()
    state = {name: torch.tensor(tensor) for name, tensor in hf_tensors(weights)}
    model.load_state_dict(state, strict=False)  # the tied output matrix alone is not among them
    return model


class TransformersEngine(InProcessEngine[TorchCache]):
    """Its weights may change while it serves: what it samples after that is of the new ones alone, also where the
    prompt was computed with the old."""

    def __init__(self, model: Any, *, max_batch: int, weights: str = "") -> None:
        """`model`: of transformers, as `torch_check.check_model` lets through; `weights`: where `reload` finds it."""
        self._model = model
        self._weights = weights
        self._torch_decoder = TorchDecoder(model, max_batch)
        super().__init__(self._torch_decoder, model.get_input_embeddings().num_embeddings, max_batch)

    async def health(self) -> None:
        await self._between(lambda: None)

    async def version(self) -> PolicyVersion:
        await self.health()
        return self._torch_decoder.policy_version

    async def pause(self, *, keep: bool) -> None:
        def stop() -> None:
            self._scheduler.paused = True
            if not keep:
                self._scheduler.abort()

        await self._between(stop)

    async def resume(self) -> None:
        def go() -> None:
            self._scheduler.paused = False

        await self._between(go)

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        await self.load_weights(await to_thread.run_sync(self._read_state, weights or self._weights), version)

    async def load_weights(self, state: Mapping[str, torch.Tensor], version: PolicyVersion) -> None:
        """Takes a copy of a model's `state_dict()` between two steps. What it generates from now on is of `version`.

        Raises:
            EngineFault: the tensors are not this model's.
        """
        self._check_state(state)

        def load() -> None:
            self._torch_decoder.load(state, version)
            self._scheduler.forget()

        await self._between(load)

    def _read_state(self, weights: str) -> Mapping[str, torch.Tensor]:
        if not Path(weights).exists():
            raise EngineFault(f"no weights at '{weights}'; give a directory or a .gguf file", retryable=False)
        with boundary(Boundary.ENGINE):
            model = read_model(Path(weights), self._model.dtype, torch.device("cpu"))
        state: Mapping[str, torch.Tensor] = model.state_dict()
        return state

    def _check_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Before any is taken: half of them would be no model at all."""
        own = self._model.state_dict()
        wrong = sorted(own.keys() ^ state.keys()) or [name for name in own if own[name].shape != state[name].shape]
        if wrong:
            rule = "weights must have the names and shapes of the model's own state_dict()"
            raise EngineFault(f"{wrong[0]} and {len(wrong) - 1} others do not fit; {rule}", retryable=False)

    async def _between(self, errand: Callable[[], None]) -> None:
        done = self._worker.between(errand)
        with anyio.CancelScope(shield=True):  # at most a step, and loading
            await to_thread.run_sync(done.result)
