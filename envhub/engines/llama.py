"""Llama: the forward pass in numpy, fp32, for a batch of sequences that each bring any number of new tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from envhub.contracts.turn import Ids
from envhub.engines.gguf_weights import Floats, LayerWeights, LlamaWeights
from envhub.engines.kv_cache import KVCache
from envhub.engines.products import Products


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The next tokens of one sequence: one while it decodes, a piece of its prompt before."""

    cache: KVCache
    ids: Ids


class Llama:
    """Weights and the arithmetic over them. Not for several threads at once."""

    def __init__(self, weights: LlamaWeights, products: Products) -> None:
        self.weights = weights
        self._products = products
        self._rope = _rope_table(weights)

    def hidden(self, segments: Sequence[Segment]) -> Floats:
        """[tokens of all segments, width] before the output norm; the segments' caches hold their tokens after it."""
        ids = np.concatenate([segment.ids for segment in segments])
        positions = np.concatenate([segment.cache.length + np.arange(len(segment.ids)) for segment in segments])
        cosine, sine = self._rope[0][positions], self._rope[1][positions]
        for segment in segments:
            segment.cache.reserve(len(segment.ids))
        x: Floats = self.weights.embedding[ids]
        for index, layer in enumerate(self.weights.layers):
            x += self._attention(index, layer, x, segments, (cosine, sine))
            x += self._mlp(layer, x)
        for segment in segments:
            segment.cache.commit(segment.ids)
        return x

    def logits(self, hidden: Floats) -> Floats:
        """[n, vocabulary] of the tokens after those of `hidden` [n, width]."""
        return self._products.multiply(self._norm(hidden, self.weights.output_norm), self.weights.output)

    def _attention(
        self, index: int, layer: LayerWeights, x: Floats, segments: Sequence[Segment], rope: tuple[Floats, Floats]
    ) -> Floats:
        shape = self.weights.shape
        qkv = self._products.multiply(self._norm(x, layer.attention_norm), layer.qkv).reshape(
            len(x), -1, shape.head_width
        )
        rotated = _rotate(qkv[:, : shape.heads + shape.kv_heads], *rope)
        queries = rotated[:, : shape.heads] * np.float32(shape.head_width**-0.5)
        keys, values = rotated[:, shape.heads :], qkv[:, shape.heads + shape.kv_heads :]
        mixed = np.empty((len(x), shape.heads * shape.head_width), np.float32)
        for segment, rows in zip(segments, _rows(segments), strict=True):
            mixed[rows] = _attend(queries[rows], *segment.cache.write(index, keys[rows], values[rows]))
        return self._products.multiply(mixed, layer.attention_output)

    def _mlp(self, layer: LayerWeights, x: Floats) -> Floats:
        gate, up = np.split(self._products.multiply(self._norm(x, layer.mlp_norm), layer.gate_up), 2, axis=1)
        # SwiGLU: silu(gate) * up, with silu(g) = g * sigmoid(g) written by tanh, which can't overflow.
        return self._products.multiply(np.float32(0.5) * gate * (1 + np.tanh(np.float32(0.5) * gate)) * up, layer.down)

    def _norm(self, x: Floats, weight: Floats) -> Floats:
        mean_square = np.mean(x * x, axis=1, keepdims=True)
        normed: Floats = x / np.sqrt(mean_square + np.float32(self.weights.shape.epsilon)) * weight
        return normed


def _rows(segments: Sequence[Segment]) -> Iterator[slice]:
    """Where each segment's tokens lie among those of all."""
    ends = accumulate(len(segment.ids) for segment in segments)
    return (slice(end - len(segment.ids), end) for segment, end in zip(segments, ends, strict=True))


def _attend(queries: Floats, keys: Floats, values: Floats) -> Floats:
    """Causal attention of the last n tokens; queries [n, heads, d] -> [n, heads * d]."""
    count, heads, width = queries.shape
    kv_heads, _, tokens = keys.shape
    shared = heads // kv_heads  # query heads that read one key head
    grouped = queries.reshape(count, kv_heads, shared, width).transpose(1, 2, 0, 3)
    scores = grouped.reshape(kv_heads, shared * count, width) @ keys
    if count > 1:
        future = np.triu(np.full((count, count), -np.inf, np.float32), k=1)
        scores.reshape(kv_heads, shared, count, tokens)[..., tokens - count :] += future
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    mixed: Floats = (scores @ values) / scores.sum(axis=-1, keepdims=True)
    return mixed.reshape(kv_heads, shared, count, width).transpose(2, 0, 1, 3).reshape(count, heads * width)


def _rotate(heads: Floats, cosine: Floats, sine: Floats) -> Floats:
    """RoPE (arXiv:2104.09864 eq. 34) of [n, heads, d] by position, over the pairs (i, i + d / 2)."""
    half = heads.shape[-1] // 2
    left, right = heads[..., :half], heads[..., half:]
    cosine, sine = cosine[:, None], sine[:, None]
    return np.concatenate([left * cosine - right * sine, right * cosine + left * sine], axis=-1)


def _rope_table(weights: LlamaWeights) -> tuple[Floats, Floats]:
    """Cosine and sine, [context, head_width / 2] each."""
    shape = weights.shape
    frequencies = shape.rope_base ** (-np.arange(0, shape.head_width, 2) / shape.head_width)
    angles = np.outer(np.arange(shape.context), frequencies)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
