"""KVCache: the keys and values of one sequence, the beginning of which it may share with others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envhub.contracts.turn import Ids
from envhub.engines.in_process.gguf_weights import Floats, LlamaShape

GROWTH = 256  # tokens; the least a cache grows by


@dataclass(frozen=True, slots=True, eq=False)
class Trunk:
    """The beginning that sequences share: nobody writes to it any more, so that a fork copies nothing."""

    keys: Floats  # [layers, kv_heads, head_width, tokens]
    values: Floats  # [layers, kv_heads, tokens, head_width]
    nbytes: int  # that it keeps in memory: of the arrays that it is a view of

    @property
    def length(self) -> int:
        return int(self.keys.shape[-1])

    def first(self, tokens: int) -> "Trunk":
        """As many of its tokens."""
        if tokens == self.length:
            return self
        return Trunk(self.keys[..., :tokens], self.values[..., :tokens, :], self.nbytes)


class KVCache:
    """What attention needs of a sequence's first `length` tokens: those of its trunk, then its own tail."""

    def __init__(self, shape: LlamaShape, capacity: int, trunk: Trunk | None = None) -> None:
        """With room for `capacity` tokens after the trunk's."""
        self._shape = shape
        self.trunk = trunk
        self._start = trunk.length if trunk else 0  # where the tail begins
        self.length = self._start
        self._ids = np.empty(self._start + capacity, np.int32)
        # Keys lie transposed: BLAS multiplies few queries by them 3 to 5 times as fast.
        self._keys: Floats = np.empty((shape.layers, shape.kv_heads, shape.head_width, capacity), np.float32)
        self._values: Floats = np.empty((shape.layers, shape.kv_heads, capacity, shape.head_width), np.float32)

    @property
    def ids(self) -> Ids:
        """int32 [length]: the tokens."""
        return self._ids[: self.length]

    @property
    def experts(self) -> None:
        """A llama does not route."""

    @property
    def nbytes(self) -> int:
        """Of the tail."""
        return self._keys.nbytes + self._values.nbytes

    def reserve(self, count: int) -> None:
        """Makes room for `count` more tokens."""
        needed = self.length + count
        if needed > len(self._ids):
            self._take(self._on(self.trunk, self.length, count + max(GROWTH, (needed - self._start) // 2)))

    def write(self, layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Puts one layer's keys and values [n, kv_heads, head_width] after the others.

        Returns that layer's tail: keys [kv_heads, head_width, t] and values [kv_heads, t, head_width]. They count once
        `commit` was called.
        """
        start = self.length - self._start
        end = start + len(keys)
        self._keys[layer, :, :, start:end] = keys.transpose(1, 2, 0)
        self._values[layer, :, start:end] = values.swapaxes(0, 1)
        return self._keys[layer, :, :, :end], self._values[layer, :, :end]

    def commit(self, ids: Ids) -> None:
        """The tokens that all layers have written."""
        self._ids[self.length : self.length + len(ids)] = ids
        self.length += len(ids)

    def fork(self, length: int, room: int) -> "KVCache":
        """A cache of the first `length` tokens, with room for more.

        The two share a trunk from then on. What is short beside the trunk, or beside the rest of this tail, is copied.
        """
        tail = length - self._start
        if tail > max(self._start, self.length - length):
            self._take(self._on(self._rooted(tail), self.length, GROWTH))
        return self._on(self.trunk and self.trunk.first(min(length, self._start)), length, room)

    def _rooted(self, count: int) -> Trunk:
        """The trunk, or none yet, and `count` tokens of the tail as one."""
        keys, values, nbytes = self._keys[..., :count], self._values[..., :count, :], self.nbytes
        if self.trunk is None:
            return Trunk(keys, values, nbytes)
        keys = np.concatenate([self.trunk.keys, keys], axis=-1)
        values = np.concatenate([self.trunk.values, values], axis=-2)
        return Trunk(keys, values, keys.nbytes + values.nbytes)

    def _on(self, trunk: Trunk | None, length: int, room: int) -> "KVCache":
        """A cache of the first `length` tokens with room for more, on a trunk that ends no later."""
        start = trunk.length if trunk else 0
        cache = KVCache(self._shape, length - start + room, trunk)
        cache._ids[:length] = self._ids[:length]
        cache._keys[..., : length - start] = self._keys[..., start - self._start : length - self._start]
        cache._values[..., : length - start, :] = self._values[..., start - self._start : length - self._start, :]
        cache.length = length
        return cache

    def _take(self, other: "KVCache") -> None:
        """Holds what the other does, the same tokens."""
        self.trunk, self._start = other.trunk, other._start
        self._ids, self._keys, self._values = other._ids, other._keys, other._values


def nbytes(caches: Sequence[KVCache]) -> int:
    """Of several: a trunk counts once, however many have it."""
    trunks = {id(cache.trunk): cache.trunk.nbytes for cache in caches if cache.trunk}
    return sum(cache.nbytes for cache in caches) + sum(trunks.values())
