"""TorchDecoder: steps of a transformers model over many sequences at once, each with its slot of keys and values."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from envhub.contracts.ids import PolicyVersion
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.sampling import DAMAGED, Drawn, Sampler
from envhub.engines.in_process.torch_attention import PackedStep
from envhub.engines.in_process.torch_routing import Routers, chosen
from envhub.engines.in_process.torch_slots import TorchCache, TorchSlots
from envhub.errors import EngineFault

CPU_PREFILL, GPU_PREFILL = 256, 8192  # tokens a step
DRAWN_AT_ONCE = 1 << 26  # logits: half a GiB in float64


class TorchDecoder:
    """A causal language model of transformers whose attention is torch_attention's."""

    def __init__(self, model: Any, max_batch: int) -> None:
        self.context_tokens: int = model.config.max_position_embeddings
        self.policy_version = PolicyVersion(0)
        self.prefill_tokens = CPU_PREFILL if model.device.type == "cpu" else GPU_PREFILL
        self._model = model
        self._routers = Routers(model)
        self._kept = max_batch  # ended sequences, for the turns that continue them
        self._slots = TorchSlots(max_batch + self._kept)

    def begin(self, tokens: int) -> TorchCache:
        return self._slots.take(np.empty(0, np.int32))

    def fork(self, cache: TorchCache, length: int, tokens: int) -> TorchCache:
        return self._slots.copy(cache, length)

    def crowded(self, kept: Sequence[TorchCache]) -> bool:
        return len(kept) > self._kept

    def release(self, cache: TorchCache) -> None:
        self._slots.give_back(cache)

    def load(self, state: Mapping[str, torch.Tensor], version: PolicyVersion) -> None:
        """Other weights, of `version`; what the caches hold is of the old ones."""
        self._model.load_state_dict(state)
        self.policy_version = version

    def step(self, segments: Sequence[Segment[TorchCache]]) -> list[Drawn]:
        ends = accumulate(len(segment.ids) for segment in segments)
        drawing = [(segment.sampler, end - 1) for segment, end in zip(segments, ends, strict=True) if segment.sampler]
        logits = self.logits(segments, [row for _, row in drawing])
        most = max(1, DRAWN_AT_ONCE // logits.shape[1])
        samplers = [sampler for sampler, _ in drawing]
        drawn = [
            drawn
            for start in range(0, len(samplers), most)
            for drawn in _draw(logits[start : start + most], samplers[start : start + most])
        ]
        for row, sampler in enumerate(samplers):
            if sampler.truncated:
                drawn[row] = sampler.sample(logits[row].float().cpu().numpy())
        return drawn

    def logits(self, segments: Sequence[Segment[TorchCache]], rows: Sequence[int]) -> torch.Tensor:
        """[rows, vocabulary] after those of the step's tokens; the caches hold all of them then."""
        self._slots.reserve(max(segment.cache.length + len(segment.ids) for segment in segments))
        device = self._model.device
        step = PackedStep(segments, self._slots, device)
        ids = torch.from_numpy(np.concatenate([segment.ids for segment in segments])).to(device, torch.long)
        with torch.no_grad(), self._routers.watched() as answers:
            output = self._model(
                input_ids=ids[None],
                position_ids=step.positions[None],
                use_cache=False,
                logits_to_keep=torch.tensor(rows, dtype=torch.long, device=device),
                step=step,
            )
        experts = chosen(answers)
        end = 0
        for segment in segments:
            start, end = end, end + len(segment.ids)
            segment.cache.append(segment.ids, None if experts is None else experts[start:end])
        return output.logits[0]


def _draw(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[Drawn]:
    """For each row as its sampler would, but all at once and where the logits are. Those whose sampling is truncated
    are left to their samplers.

    Raises:
        EngineFault: the logits are not numbers.
    """
    if torch.isnan(logits).any():
        raise EngineFault(DAMAGED, retryable=False)
    device, greedy = logits.device, [sampler.temperature == 0.0 for sampler in samplers]
    temperatures = [sampler.temperature or 1.0 for sampler in samplers]
    drawn_here = [not (sampler.temperature == 0.0 or sampler.truncated) for sampler in samplers]
    points = [sampler.point() if here else 0.0 for sampler, here in zip(samplers, drawn_here, strict=True)]
    scaled = logits.double() / torch.tensor(temperatures, dtype=torch.float64, device=device)[:, None]
    scaled -= scaled.amax(dim=1, keepdim=True)
    cumulative = scaled.exp().cumsum(dim=1)
    total = cumulative[:, -1:].contiguous()
    wanted = torch.tensor(points, dtype=torch.float64, device=device)[:, None] * total
    # Below the total, so that rounding can't point past the last id that has any probability.
    wanted = torch.minimum(wanted, torch.nextafter(total, torch.zeros_like(total)))
    ids = torch.searchsorted(cumulative, wanted, right=True)
    logprobs = (scaled.gather(1, ids) - total.log()).clamp(max=0.0)
    likeliest = logits.argmax(dim=1)
    return [
        Drawn(best, 0.0) if certain else Drawn(id, logprob)
        for certain, best, id, logprob in zip(
            greedy, likeliest.tolist(), ids[:, 0].tolist(), logprobs[:, 0].tolist(), strict=True
        )
    ]
