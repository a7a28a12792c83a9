"""Which models of transformers the engine can run exactly: found out by running them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from envhub.contracts.turn import Ids
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.torch_attention import IMPLEMENTATION
from envhub.engines.in_process.torch_decoder import TorchDecoder
from envhub.errors import Boundary, Fault, UsageError, boundary

PIECES = ((0, 9), (9, 20), (20, 21), (21, 22), (22, 23))  # of the sequence, one a step
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2}  # nats, in the mean
VARYING = ("dynamic", "longrope")  # kinds of RoPE that turn a token by how long others are


def check_model(model: Any) -> None:
    """Puts the engine's attention into a model, once its log probabilities are those of the model's own.

    Raises:
        UsageError: they are not, or the model's attention can't be replaced.
    """
    kind, way_out = type(model).__name__, "use another model, or a server for this one (docs/engines.md)"
    varying = next((rope for rope in _ropes(model.config.to_dict()) if rope in VARYING), None)
    if varying:
        raise UsageError(f"{kind} has RoPE of type {varying}, which depends on the other sequences; {way_out}")
    vocabulary = model.get_input_embeddings().num_embeddings
    ids, other = np.random.default_rng(0).integers(0, vocabulary, (2, PIECES[-1][1])).astype(np.int32)
    try:
        with boundary(Boundary.ENGINE):
            expected = _whole(model, ids)
            model.set_attn_implementation(IMPLEMENTATION)
            error = float((_pieces(model, ids, other) - expected).abs().mean())
    except Fault as fault:
        raise UsageError(f"{kind} can't run with this engine's attention ({fault}); {way_out}") from fault
    if not error < TOLERANCE[model.dtype]:
        raise UsageError(f"{kind} differs from itself by {error:.2g} nats with this engine's attention; {way_out}")


def _whole(model: Any, ids: Ids) -> torch.Tensor:
    """[tokens, vocabulary] log probabilities in one pass of the model's own."""
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(ids).to(model.device, torch.long)[None], use_cache=False).logits
    return torch.log_softmax(logits[0].float(), dim=-1)


def _pieces(model: Any, ids: Ids, other: Ids) -> torch.Tensor:
    """The same, in steps beside another sequence that lags behind."""
    decoder = TorchDecoder(model, max_batch=2)
    caches = [decoder.begin(0), decoder.begin(0)]
    found = []
    for start, end in PIECES:
        lagging = other[caches[1].length :][: end - start - 1 or 1]
        segments = [Segment(caches[1], lagging), Segment(caches[0], ids[start:end])]
        rows = range(len(lagging), len(lagging) + end - start)
        found.append(torch.log_softmax(decoder.logits(segments, rows).float(), dim=-1))
    return torch.cat(found)


def _ropes(config: Mapping[str, object]) -> Iterator[object]:
    for name, value in config.items():
        if name == "rope_type":
            yield value
        elif isinstance(value, dict):
            yield from _ropes(value)
