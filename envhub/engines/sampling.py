"""Sampler: draws a request's ids, each with the log probability under the distribution that it was drawn from."""

import numpy as np

from envhub.contracts.turn import Sampling
from envhub.engines.gguf_weights import Floats
from envhub.errors import EngineFault


class Sampler:
    """One request's sampling: the same seed over the same logits gives the same ids."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._random = np.random.default_rng(sampling.seed)

    def sample(self, logits: Floats) -> tuple[int, float]:
        """An id and its log probability in nats; greedy draws from one certain id, so its log probability is 0.

        Raises:
            EngineFault: the logits are not numbers.
        """
        if np.isnan(logits).any():
            raise EngineFault("the model's logits are not numbers: its weights are damaged", retryable=False)
        if self._temperature == 0.0:
            return int(np.argmax(logits)), 0.0
        scaled = logits.astype(np.float64) / self._temperature
        scaled -= scaled.max()
        cumulative = np.cumsum(np.exp(scaled))
        total = cumulative[-1]
        # Below the total, so that rounding can't point past the last id that has any probability.
        point = min(self._random.random() * total, np.nextafter(total, 0.0))
        index = int(np.searchsorted(cumulative, point, side="right"))
        return index, min(0.0, float(scaled[index] - np.log(total)))
