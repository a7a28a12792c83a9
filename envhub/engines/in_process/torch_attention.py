"""PackedStep: the attention of one step of a transformers model, whose tokens lie in one row, whatever their sequence.

transformers calls `attend` in every layer, by the name IMPLEMENTATION, with the step that was given to the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.torch_slots import TorchCache, TorchSlots

IMPLEMENTATION = "envhub"
UNKNOWN = ("softcap", "s_aux", "position_bias")  # that some models add to attention


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    step: "PackedStep",
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """As transformers' attention functions: [1, heads, n, d] of a layer in, [1, n, heads, d] out.

    Raises:
        NotImplementedError: the model's attention is more than that.
    """
    for name in UNKNOWN:
        if others.get(name) is not None:
            raise NotImplementedError(f"attention with {name}")
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return step.attend(module.layer_idx, queries, keys, values, scaling, sliding_window)[None], None


AttentionInterface.register(IMPLEMENTATION, attend)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Segments of one size, attended at once."""

    rows: torch.Tensor  # [sequences * n] in the step
    slots: slice | torch.Tensor  # a slice where they lie side by side: then nothing is copied
    positions: torch.Tensor  # [sequences, n]
    visible: torch.Tensor  # bool [sequences, n, longest]

    def attend(
        self, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float | None, window: int | None
    ) -> torch.Tensor:
        """[rows, heads, d] of their queries, with the keys and values of all slots."""
        sequences, count, longest = self.visible.shape
        keys, values = keys[self.slots, :, :longest], values[self.slots, :, :longest]
        kv_heads = keys.shape[1]
        shared = queries.shape[1] // kv_heads  # query heads that read one key head: they pass for tokens of it
        grouped = queries.view(sequences, count, kv_heads, shared, -1).permute(0, 2, 3, 1, 4).flatten(2, 3)
        mask = self._mask(window).repeat(1, shared, 1)[:, None]
        mixed = scaled_dot_product_attention(grouped, keys, values, attn_mask=mask, scale=scaling)
        return mixed.unflatten(2, (shared, count)).permute(0, 3, 1, 2, 4).flatten(2, 3).flatten(0, 1)

    def _mask(self, window: int | None) -> torch.Tensor:
        longest = self.visible.shape[2]
        if window is None or longest <= window:
            return self.visible
        places = torch.arange(longest, device=self.visible.device)
        return self.visible & (places > self.positions[..., None] - window)


class PackedStep:
    """Where each token of a step belongs."""

    def __init__(self, segments: Sequence[Segment[TorchCache]], slots: TorchSlots, device: torch.device) -> None:
        self._slots = slots
        self._device = device
        starts = [segment.cache.length for segment in segments]
        self._owners = self._tensor([segment.cache.slot for segment in segments for _ in segment.ids])
        self.positions = self._tensor(
            [
                start + place
                for segment, start in zip(segments, starts, strict=True)
                for place in range(len(segment.ids))
            ]
        )
        self._parts = list(self._split(segments))

    def attend(
        self,
        layer: int,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """[n, heads, d] of the step's own, whose keys and values [n, kv_heads, d] go into the slots."""
        all_keys, all_values = self._slots.layer(layer, keys, values)
        all_keys[self._owners, :, self.positions] = keys
        all_values[self._owners, :, self.positions] = values
        mixed = queries.new_empty(*queries.shape[:2], values.shape[-1])
        for part in self._parts:
            mixed[part.rows] = part.attend(queries[part.rows], all_keys, all_values, scaling, window)
        return mixed

    def _split(self, segments: Sequence[Segment[TorchCache]]) -> Iterator[_Part]:
        """All of one size together: what decodes, and prompts or what is left of them where they are as long."""
        ends = accumulate(len(segment.ids) for segment in segments)
        by_size: dict[int, list[tuple[Segment[TorchCache], int]]] = {}
        for segment, end in zip(segments, ends, strict=True):
            by_size.setdefault(len(segment.ids), []).append((segment, end - len(segment.ids)))
        for size, placed in by_size.items():
            placed.sort(key=lambda each: each[0].cache.slot)
            rows = [row + place for _, row in placed for place in range(size)]
            yield self._part([segment for segment, _ in placed], rows)

    def _part(self, segments: Sequence[Segment[TorchCache]], rows: Sequence[int]) -> _Part:
        at = self._tensor(rows)
        positions = self.positions[at].view(len(segments), -1)
        longest = max(segment.cache.length + len(segment.ids) for segment in segments)
        visible = torch.arange(longest, device=self._device) <= positions[..., None]
        used = [segment.cache.slot for segment in segments]
        side_by_side = used[-1] - used[0] == len(used) - 1
        slots = slice(used[0], used[-1] + 1) if side_by_side else self._tensor(used)
        return _Part(at, slots, positions, visible)

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, dtype=torch.long, device=self._device)
