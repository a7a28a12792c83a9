"""KVCache: the keys and values of one sequence; PrefixCache: those of ended sequences, for prompts that extend them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from envhub.contracts.turn import Ids
from envhub.engines.gguf_weights import Floats, LlamaShape

GROWTH = 256  # tokens; the least a cache grows by


class KVCache:
    """What attention needs of a sequence's first `length` tokens. One sequence owns it."""

    def __init__(self, shape: LlamaShape, capacity: int) -> None:
        self._shape = shape
        self.length = 0
        self._ids = np.empty(capacity, np.int32)
        # Keys lie transposed: BLAS multiplies few queries by them 3 to 5 times as fast.
        self._keys: Floats = np.empty((shape.layers, shape.kv_heads, shape.head_width, capacity), np.float32)
        self._values: Floats = np.empty((shape.layers, shape.kv_heads, capacity, shape.head_width), np.float32)

    @property
    def ids(self) -> Ids:
        """int32 [length]: the tokens."""
        return self._ids[: self.length]

    @property
    def nbytes(self) -> int:
        return self._keys.nbytes + self._values.nbytes

    def reserve(self, count: int) -> None:
        """Makes room for `count` more tokens."""
        needed = self.length + count
        if needed > len(self._ids):
            grown = self.fork(self.length, needed + max(GROWTH, needed // 2))
            self._ids, self._keys, self._values = grown._ids, grown._keys, grown._values

    def write(self, layer: int, keys: Floats, values: Floats) -> tuple[Floats, Floats]:
        """Puts one layer's keys and values [n, kv_heads, head_width] after the others.

        Returns all of that layer: keys [kv_heads, head_width, length + n] and values [kv_heads, length + n,
        head_width]. They count once `commit` was called.
        """
        end = self.length + len(keys)
        self._keys[layer, :, :, self.length : end] = keys.transpose(1, 2, 0)
        self._values[layer, :, self.length : end] = values.swapaxes(0, 1)
        return self._keys[layer, :, :, :end], self._values[layer, :, :end]

    def commit(self, ids: Ids) -> None:
        """The tokens that all layers have written."""
        self._ids[self.length : self.length + len(ids)] = ids
        self.length += len(ids)

    def fork(self, length: int, capacity: int) -> "KVCache":
        """A copy of the first `length` tokens with room for `capacity`."""
        copy = KVCache(self._shape, capacity)
        copy._ids[:length] = self._ids[:length]
        copy._keys[..., :length] = self._keys[..., :length]
        copy._values[..., :length, :] = self._values[..., :length, :]
        copy.length = length
        return copy


class PrefixCache:
    """Ended sequences, the oldest dropped first once they exceed `max_bytes`."""

    def __init__(self, shape: LlamaShape, max_bytes: int) -> None:
        self._shape = shape
        self._max_bytes = max_bytes
        self._ended: list[KVCache] = []  # the least recently used first

    def longest(self, prompt: Ids, live: Iterable[KVCache]) -> "Known":
        """The ended or live sequence that shares most with `prompt`."""
        candidates = (Known(cache, shared_prefix(prompt, cache.ids)) for cache in (*self._ended, *live))
        return max(candidates, key=lambda known: known.shared, default=Known(None, 0))

    def begin(self, known: "Known", tokens: int) -> KVCache:
        """A cache of what is known of a prompt of `tokens`, with room for all of it and some output."""
        if known.cache is None or not known.shared:
            return KVCache(self._shape, tokens + GROWTH)
        if known.cache in self._ended:
            self._ended.remove(known.cache)
            if known.shared == known.cache.length:  # the prompt continues it: nobody else needs it shorter
                return known.cache
            self._ended.append(known.cache)
        return known.cache.fork(known.shared, tokens + GROWTH)

    def keep(self, cache: KVCache) -> None:
        """Takes the cache of a sequence that ended."""
        self._ended.append(cache)
        while sum(kept.nbytes for kept in self._ended) > self._max_bytes:
            self._ended.pop(0)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """How many tokens of a prompt a cache holds already."""

    cache: KVCache | None
    shared: int


def shared_prefix(prompt: Ids, ids: Ids) -> int:
    """How many tokens `ids` has of the beginning of `prompt`: not its last one, whose output nobody kept."""
    size = min(len(prompt) - 1, len(ids))
    differing = np.flatnonzero(prompt[:size] != ids[:size])
    return int(differing[0]) if len(differing) else size
