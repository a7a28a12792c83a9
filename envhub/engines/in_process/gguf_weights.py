"""LlamaWeights: the tensors of a llama-architecture GGUF file as fp32 matrices, laid out as llama.py multiplies."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gguf import GGUFReader, dequantize
from numpy.typing import NDArray

from envhub.errors import UsageError

Floats: TypeAlias = NDArray[np.float32]

LAYER_TENSORS = (
    "attn_norm",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_norm",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
)


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a llama model."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    context: int
    rope_base: float
    epsilon: float

    @property
    def head_width(self) -> int:
        return self.width // self.heads


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One block. Matrices are [out, in]: rows are contiguous, so that a slice of outputs is one run of memory."""

    attention_norm: Floats  # [width]
    qkv: Floats  # [(heads + 2 kv_heads) * head_width, width]: query, key and value in one product
    attention_output: Floats  # [width, width]
    mlp_norm: Floats  # [width]
    gate_up: Floats  # [2 * hidden, width]: gate, then up
    down: Floats  # [width, hidden]


@dataclass(frozen=True, slots=True, eq=False)
class LlamaWeights:
    """A whole model."""

    shape: LlamaShape
    embedding: Floats  # [vocabulary, width]
    layers: tuple[LayerWeights, ...]
    output_norm: Floats  # [width]
    output: Floats  # [vocabulary, width]; the embedding itself where they are tied


def read_weights(reader: GGUFReader) -> LlamaWeights:
    """The weights of an open GGUF file, dequantised.

    Raises:
        UsageError: another architecture, or tensors that llama.py would leave out.
    """
    shape = _read_shape(reader)
    tensors = {tensor.name.removesuffix(".weight"): tensor for tensor in reader.tensors}
    _check_tensors(shape, set(tensors))

    def matrix(name: str) -> Floats:
        return np.ascontiguousarray(dequantize(tensors[name].data, tensors[name].tensor_type), dtype=np.float32)

    def layer(index: int) -> LayerWeights:
        block = {name: matrix(f"blk.{index}.{name}") for name in LAYER_TENSORS}
        query = _halves(block["attn_q"], shape.heads)
        key = _halves(block["attn_k"], shape.kv_heads)
        return LayerWeights(
            attention_norm=block["attn_norm"],
            qkv=np.concatenate([query, key, block["attn_v"]]),
            attention_output=block["attn_output"],
            mlp_norm=block["ffn_norm"],
            gate_up=np.concatenate([block["ffn_gate"], block["ffn_up"]]),
            down=block["ffn_down"],
        )

    embedding = matrix("token_embd")
    return LlamaWeights(
        shape=shape,
        embedding=embedding,
        layers=tuple(layer(index) for index in range(shape.layers)),
        output_norm=matrix("output_norm"),
        output=matrix("output") if "output" in tensors else embedding,
    )


def _read_shape(reader: GGUFReader) -> LlamaShape:
    architecture = _value(reader, "general.architecture")
    if architecture != "llama":
        raise UsageError(f"the weights' architecture is '{architecture}'; this engine runs 'llama': give such a GGUF")
    if reader.get_field("llama.rope.scaling.type") is not None:
        raise UsageError("the weights scale their RoPE; this engine runs unscaled ones: give such a GGUF")
    shape = LlamaShape(
        layers=_value(reader, "llama.block_count"),
        width=_value(reader, "llama.embedding_length"),
        heads=_value(reader, "llama.attention.head_count"),
        kv_heads=_value(reader, "llama.attention.head_count_kv"),
        context=_value(reader, "llama.context_length"),
        rope_base=_value(reader, "llama.rope.freq_base"),
        epsilon=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
    )
    rotated = _value(reader, "llama.rope.dimension_count")
    if rotated != shape.head_width:
        rule = f"this engine rotates whole heads of {shape.head_width}"
        raise UsageError(f"the weights rotate {rotated} dimensions a head; {rule}: give another GGUF")
    return shape


def _value(reader: GGUFReader, name: str) -> Any:  # GGUF metadata is dynamically typed
    field = reader.get_field(name)
    if field is None:
        raise UsageError(f"the GGUF has no {name}, which every llama model states; give a whole file")
    return field.contents()


def _check_tensors(shape: LlamaShape, found: set[str]) -> None:
    """A tensor left out (a bias, RoPE factors) would give other probabilities than the model's, silently."""
    needed = {"token_embd", "output_norm", *_layer_names(shape)}
    wrong = sorted(needed - found) + sorted(found - needed - {"output"})
    if wrong:
        names = ", ".join(wrong[:3])
        raise UsageError(f"the GGUF's tensors are not a plain llama's: {names} missing or unknown; give another GGUF")


def _layer_names(shape: LlamaShape) -> Iterator[str]:
    return (f"blk.{index}.{name}" for index in range(shape.layers) for name in LAYER_TENSORS)


def _halves(matrix: Floats, heads: int) -> Floats:
    """GGUF stores a head's rows so that RoPE turns neighbours (2i, 2i + 1); reordered, it turns (i, i + half)."""
    rows, columns = matrix.shape
    pairs = matrix.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)
