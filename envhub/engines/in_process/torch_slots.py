"""TorchSlots: keys and values of many sequences in torch, one sequence a slot of each layer's two tensors."""

import heapq
from typing import TypeAlias

import numpy as np
import torch

from envhub.contracts.token_file import Experts
from envhub.contracts.turn import Ids

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]  # keys and values, [slots, kv_heads, tokens, head_width] each
GROWTH = 256  # tokens


class TorchCache:
    """The tokens of the sequence in one slot."""

    def __init__(self, slot: int, ids: Ids, experts: Experts | None = None) -> None:
        self.slot = slot
        self.length = len(ids)
        self._ids = np.concatenate([ids, np.empty(GROWTH, np.int32)])
        self._experts = [] if experts is None else [experts]

    @property
    def ids(self) -> Ids:
        return self._ids[: self.length]

    @property
    def experts(self) -> Experts | None:
        """[length, layers, k]; None: the model does not route."""
        if len(self._experts) > 1:
            self._experts = [np.concatenate(self._experts)]
        return self._experts[0] if self._experts else None

    def append(self, ids: Ids, experts: Experts | None = None) -> None:
        if experts is not None:
            self._experts.append(experts)
        end = self.length + len(ids)
        if end > len(self._ids):
            self._ids = np.concatenate([self._ids, np.empty(end, np.int32)])
        self._ids[self.length : end] = ids
        self.length = end


class TorchSlots:
    """Memory is taken from the first tokens on that a layer brings, as wide as the longest sequence so far."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._free = list(range(slots))  # a heap: the lowest is given first, so that those in use lie together
        self._layers: dict[int, Pair] = {}
        self._tokens = GROWTH

    def take(self, ids: Ids, experts: Experts | None = None) -> TorchCache:
        return TorchCache(heapq.heappop(self._free), ids, experts)

    def give_back(self, cache: TorchCache) -> None:
        heapq.heappush(self._free, cache.slot)

    def copy(self, source: TorchCache, length: int) -> TorchCache:
        """Another slot with the first `length` tokens of that one."""
        copy = self.take(source.ids[:length], None if source.experts is None else source.experts[:length])
        for tensor in (tensor for pair in self._layers.values() for tensor in pair):
            tensor[copy.slot, :, :length] = tensor[source.slot, :, :length]
        return copy

    def reserve(self, tokens: int) -> None:
        """Room for sequences of so many."""
        if tokens > self._tokens:
            self._tokens = max(tokens, 2 * self._tokens)
            self._layers = {index: (self._wider(pair[0]), self._wider(pair[1])) for index, pair in self._layers.items()}

    def layer(self, index: int, key: torch.Tensor, value: torch.Tensor) -> Pair:
        """A layer's keys and values, for such as these [n, kv_heads, width]."""
        if index not in self._layers:
            self._layers[index] = (self._empty(key), self._empty(value))
        return self._layers[index]

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        """Zeros, as what is masked may be anything but no number."""
        return like.new_zeros(self._slots, like.shape[1], self._tokens, like.shape[2])

    def _wider(self, tensor: torch.Tensor) -> torch.Tensor:
        wider = tensor.new_zeros(*tensor.shape[:2], self._tokens, tensor.shape[3])
        wider[:, :, : tensor.shape[2]] = tensor
        return wider
