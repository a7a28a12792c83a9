"""Sampler: draws a request's ids, each with the log probability under the distribution that it was drawn from."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.turn import Ids, Sampling
from envhub.engines.in_process.gguf_weights import Floats
from envhub.errors import EngineFault

DAMAGED = "the model's logits are not numbers: its weights are damaged"


class Drawn(NamedTuple):
    """A sampled id and its log probability, nats."""

    id: int
    logprob: float
    allowed: Ids | None = None  # what it was drawn from, where the sampling is truncated


class Sampler:
    """One request's sampling: the same seed over the same logits gives the same ids."""

    def __init__(self, sampling: Sampling) -> None:
        self.temperature = sampling.temperature
        self.truncated = sampling.truncated
        self._sampling = sampling
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
        kept = truncated(scaled, self._sampling) if self.truncated else None
        if kept is not None:
            scaled = scaled[kept]
        cumulative = np.cumsum(np.exp(scaled))
        total = cumulative[-1]
        # Below the total, so that rounding can't point past the last id that has any probability.
        point = min(self.point() * total, np.nextafter(total, 0.0))
        index = int(np.searchsorted(cumulative, point, side="right"))
        logprob = min(0.0, float(scaled[index] - np.log(total)))
        return Drawn(index, logprob) if kept is None else Drawn(int(kept[index]), logprob, kept)


def truncated(scaled: NDArray[np.float64], sampling: Sampling) -> Ids:
    """The ids that stay, in order, of log probabilities up to a constant whose highest is 0. At least the likeliest."""
    likeliest = np.argsort(-scaled, kind="stable")
    if sampling.min_p > 0.0:
        likeliest = likeliest[: np.count_nonzero(scaled >= np.log(sampling.min_p))]
    if sampling.top_k > 0:
        likeliest = likeliest[: sampling.top_k]
    if sampling.top_p < 1.0:
        cumulative = np.cumsum(np.exp(scaled[likeliest]))
        likeliest = likeliest[: np.searchsorted(cumulative, sampling.top_p * cumulative[-1]) + 1]
    return np.sort(likeliest).astype(np.int32)
