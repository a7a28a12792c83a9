"""PrefixCache: the caches of ended sequences, for prompts that extend them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic

import numpy as np

from envhub.contracts.turn import Ids
from envhub.engines.in_process.decoder import CacheT, Decoder


@dataclass(frozen=True, slots=True, eq=False)
class Known(Generic[CacheT]):
    """How many tokens of a prompt a cache holds already."""

    cache: CacheT | None
    shared: int


class PrefixCache(Generic[CacheT]):
    """Ended sequences, the least recently used dropped first once they crowd the decoder."""

    def __init__(self, decoder: Decoder[CacheT]) -> None:
        self._decoder = decoder
        self._ended: list[CacheT] = []  # the least recently used first

    def longest(self, prompt: Ids, live: Iterable[CacheT]) -> Known[CacheT]:
        """The ended or live sequence that shares most with `prompt`."""
        candidates = (Known(cache, shared_prefix(prompt, cache.ids)) for cache in (*self._ended, *live))
        return max(candidates, key=lambda known: known.shared, default=Known(None, 0))

    def begin(self, known: Known[CacheT], tokens: int) -> CacheT:
        """A cache of what is known of a prompt of `tokens`."""
        if known.cache is None or not known.shared:
            return self._decoder.begin(tokens)
        if known.cache in self._ended:
            self._ended.remove(known.cache)
            if known.shared == known.cache.length:  # the prompt continues it: nobody else needs it shorter
                return known.cache
            self._ended.append(known.cache)
        return self._decoder.fork(known.cache, known.shared, tokens)

    def keep(self, cache: CacheT) -> None:
        """Takes the cache of a sequence that ended."""
        self._ended.append(cache)
        while self._decoder.crowded(self._ended):
            self._decoder.release(self._ended.pop(0))

    def clear(self) -> None:
        """Forgets all."""
        while self._ended:
            self._decoder.release(self._ended.pop())


def shared_prefix(prompt: Ids, ids: Ids) -> int:
    """How many tokens `ids` has of the beginning of `prompt`: not its last one, whose output nobody kept."""
    size = min(len(prompt) - 1, len(ids))
    differing = np.flatnonzero(prompt[:size] != ids[:size])
    return int(differing[0]) if len(differing) else size
