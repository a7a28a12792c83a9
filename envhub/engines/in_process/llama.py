"""Llama: the forward pass in numpy, fp32, for a batch of sequences that each bring any number of new tokens."""

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from envhub.contracts.ids import PolicyVersion
from envhub.engines.in_process.attention import Bundle, bundles
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import Floats, LayerWeights, LlamaWeights
from envhub.engines.in_process.kv_cache import GROWTH, KVCache, nbytes
from envhub.engines.in_process.products import Products
from envhub.engines.in_process.sampling import Drawn

PREFIX_BYTES = 512 << 20  # of ended sequences: some 11,000 tokens of SmolLM2-135M


class Llama:
    """Weights and the arithmetic over them. Not for several threads at once."""

    # They wait some 0.3 s for it on two cores. Twice as many prefill a tenth faster.
    prefill_tokens = 128
    policy_version = PolicyVersion(0)

    def __init__(self, weights: LlamaWeights, products: Products) -> None:
        self.weights = weights
        self.context_tokens = weights.shape.context
        self._products = products
        self._rope = _rope_table(weights)

    def begin(self, tokens: int) -> KVCache:
        return KVCache(self.weights.shape, tokens + GROWTH)

    def fork(self, cache: KVCache, length: int, tokens: int) -> KVCache:
        return cache.fork(length, tokens - length + GROWTH)

    def crowded(self, kept: Sequence[KVCache]) -> bool:
        return nbytes(kept) > PREFIX_BYTES

    def release(self, cache: KVCache) -> None:
        """Its memory goes with it."""

    def step(self, segments: Sequence[Segment[KVCache]]) -> list[Drawn]:
        hidden = self.hidden(segments)
        ends = accumulate(len(segment.ids) for segment in segments)
        drawing = [(segment.sampler, end - 1) for segment, end in zip(segments, ends, strict=True) if segment.sampler]
        logits = self.logits(hidden[[row for _, row in drawing]]) if drawing else ()
        return [sampler.sample(row) for (sampler, _), row in zip(drawing, logits, strict=True)]

    def hidden(self, segments: Sequence[Segment[KVCache]]) -> Floats:
        """[tokens of all segments, width] before the output norm; the segments' caches hold their tokens after it."""
        ids = np.concatenate([segment.ids for segment in segments])
        positions = np.concatenate([segment.cache.length + np.arange(len(segment.ids)) for segment in segments])
        cosine, sine = self._rope[0][positions], self._rope[1][positions]
        for segment in segments:
            segment.cache.reserve(len(segment.ids))
        bundled = bundles(segments)
        x: Floats = self.weights.embedding[ids]
        for index, layer in enumerate(self.weights.layers):
            x += self._attention(index, layer, x, bundled, (cosine, sine))
            x += self._mlp(layer, x)
        for segment in segments:
            segment.cache.commit(segment.ids)
        return x

    def logits(self, hidden: Floats) -> Floats:
        """[n, vocabulary] of the tokens after those of `hidden` [n, width]."""
        return self._products.multiply(self._norm(hidden, self.weights.output_norm), self.weights.output)

    def _attention(
        self, index: int, layer: LayerWeights, x: Floats, bundled: Sequence[Bundle], rope: tuple[Floats, Floats]
    ) -> Floats:
        shape = self.weights.shape
        qkv = self._products.multiply(self._norm(x, layer.attention_norm), layer.qkv).reshape(
            len(x), -1, shape.head_width
        )
        rotated = _rotate(qkv[:, : shape.heads + shape.kv_heads], *rope)
        queries = rotated[:, : shape.heads] * np.float32(shape.head_width**-0.5)
        keys, values = rotated[:, shape.heads :], qkv[:, shape.heads + shape.kv_heads :]
        mixed = np.empty((len(x), shape.heads * shape.head_width), np.float32)
        for bundle in bundled:
            rows = bundle.rows
            mixed[rows] = bundle.attend(index, queries[rows], keys[rows], values[rows])
        return self._products.multiply(mixed, layer.attention_output)

    def _mlp(self, layer: LayerWeights, x: Floats) -> Floats:
        gate, up = np.split(self._products.multiply(self._norm(x, layer.mlp_norm), layer.gate_up), 2, axis=1)
        # SwiGLU: silu(gate) * up, with silu(g) = g * sigmoid(g) = g / 2 * (1 + tanh(g / 2)), which can't overflow.
        gate *= np.float32(0.5)
        mixed = np.tanh(gate)
        mixed += 1
        mixed *= gate
        mixed *= up
        return self._products.multiply(mixed, layer.down)

    def _norm(self, x: Floats, weight: Floats) -> Floats:
        mean_square = np.mean(x * x, axis=1, keepdims=True)
        normed: Floats = x / np.sqrt(mean_square + np.float32(self.weights.shape.epsilon)) * weight
        return normed


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
