"""Sampler: draws a request's ids, each with the log probability under the distribution that it was drawn from."""

from typing import NamedTuple

import numpy as np

from envhub.contracts.turn import Sampling
from envhub.engines.in_process.gguf_weights import Floats
from envhub.errors import EngineFault

DAMAGED = "the model's logits are not numbers: its weights are damaged"


class Drawn(NamedTuple):
    """A sampled id and its log probability, nats."""

    id: int
    logprob: float


class Sampler:
    """One request's sampling: the same seed over the same logits gives the same ids."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self._random = np.random.default_rng(sampling.seed)

    def point(self) -> float:
        """Where in [0, 1) of the cumulative distribution the next id lies."""
        return self._random.random()

    def sample(self, logits: Floats) -> Drawn:
        """Greedy draws from one certain id, so its log probability is 0.

        Raises:
            EngineFault: the logits are not numbers.
        """
        if np.isnan(logits).any():
            raise EngineFault(DAMAGED, retryable=False)
        if self.temperature == 0.0:
            return Drawn(int(np.argmax(logits)), 0.0)
        scaled = logits.astype(np.float64) / self.temperature
        scaled -= scaled.max()
        cumulative = np.cumsum(np.exp(scaled))
        total = cumulative[-1]
        # Below the total, so that rounding can't point past the last id that has any probability.
        point = min(self.point() * total, np.nextafter(total, 0.0))
        index = int(np.searchsorted(cumulative, point, side="right"))
        return Drawn(index, min(0.0, float(scaled[index] - np.log(total))))
