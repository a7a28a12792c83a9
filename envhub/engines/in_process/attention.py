"""Attention: causal, of a batch over its caches; sequences on one trunk read it together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import Floats
from envhub.engines.in_process.kv_cache import KVCache, Trunk


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """Segments on one trunk, or a single one on none, and the rows of the batch that are theirs."""

    trunk: Trunk | None
    segments: Sequence[Segment[KVCache]]
    rows: NDArray[np.intp]

    def attend(self, layer: int, queries: Floats, keys: Floats, values: Floats) -> Floats:
        """[n, heads * d] of the scaled queries [n, heads, d]; the keys and values [n, kv_heads, d] go to the caches."""
        count, heads, width = queries.shape
        kv_heads = keys.shape[1]
        shared = heads // kv_heads  # query heads that read one key head
        stacked = queries.reshape(count, kv_heads, shared, width).swapaxes(0, 1).reshape(kv_heads, -1, width)
        written = [
            segment.cache.write(layer, keys[rows], values[rows])
            for segment, rows in zip(self.segments, places(self.segments), strict=True)
        ]
        weights = self._weights(layer, stacked, [tail for tail, _ in written], shared)
        start = self.trunk.length if self.trunk else 0
        mixed: Floats = weights[..., :start] @ self.trunk.values[layer] if self.trunk else np.zeros_like(stacked)
        for (_, tail), rows in zip(written, places(self.segments, shared), strict=True):
            mixed[:, rows] += weights[:, rows, start : start + tail.shape[1]] @ tail
        mixed /= weights.sum(axis=-1, keepdims=True)
        return mixed.reshape(kv_heads, count, shared, width).swapaxes(0, 1).reshape(count, heads * width)

    def _weights(self, layer: int, queries: Floats, tails: Sequence[Floats], shared: int) -> Floats:
        """exp of the scores, the largest at 1, [kv_heads, rows * shared, trunk and longest tail]; 0 where none is."""
        start = self.trunk.length if self.trunk else 0
        longest = max(tail.shape[-1] for tail in tails)
        scores = np.full((*queries.shape[:2], start + longest), -np.inf, np.float32)
        if self.trunk:
            np.matmul(queries, self.trunk.keys[layer], out=scores[..., :start])
        for segment, tail, rows in zip(self.segments, tails, places(self.segments, shared), strict=True):
            end = start + tail.shape[-1]
            np.matmul(queries[:, rows], tail, out=scores[:, rows, start:end])
            if len(segment.ids) > 1:
                scores[:, rows, end - len(segment.ids) : end] += _future(len(segment.ids), shared)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        return scores


def bundles(segments: Sequence[Segment[KVCache]]) -> list[Bundle]:
    """All segments, those on one trunk together."""
    together: dict[int, list[tuple[Segment[KVCache], slice]]] = {}
    for segment, rows in zip(segments, places(segments), strict=True):
        together.setdefault(id(segment.cache.trunk or segment), []).append((segment, rows))
    return [_bundle(members) for members in together.values()]


def _bundle(members: Iterable[tuple[Segment[KVCache], slice]]) -> Bundle:
    segments, parts = zip(*members, strict=True)
    rows = np.concatenate([np.arange(part.start, part.stop) for part in parts])
    return Bundle(segments[0].cache.trunk, segments, rows)


def places(segments: Iterable[Segment[KVCache]], shared: int = 1) -> Iterator[slice]:
    """Where each segment's tokens lie among those of all, with `shared` rows a token."""
    ends = accumulate(len(segment.ids) for segment in segments)
    return (slice((end - len(segment.ids)) * shared, end * shared) for segment, end in zip(segments, ends, strict=True))


def _future(count: int, shared: int) -> Floats:
    """[count * shared, count]: -inf where a token would see a later one."""
    return np.repeat(np.triu(np.full((count, count), -np.inf, np.float32), k=1), shared, axis=0)
