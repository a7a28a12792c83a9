"""Scorer: the log probabilities of tokens that are given, by weights in this process."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.token_file import SamplingMask
from envhub.contracts.turn import Ids
from envhub.engines.in_process.decoder import Segment
from envhub.engines.in_process.gguf_weights import read_weights
from envhub.engines.in_process.llama import Llama
from envhub.engines.in_process.products import Products
from envhub.tokens.gguf_tokenizer import open_gguf

Floats = NDArray[np.float64]
ROWS = 128  # of logits that are in memory at once


class Scorer:
    """Weights of a .gguf file. Its one method takes about as long as sampling the tokens' prompt would."""

    def __init__(self, weights: Path, *, threads: int) -> None:
        """
        Raises:
            UsageError: no such file, or one that the embedded engine can't run.
        """
        self._model = Llama(read_weights(open_gguf(weights)), Products(threads))
        self.context_tokens = self._model.context_tokens

    def logprobs(self, ids: Ids, temperatures: NDArray[np.float64], mask: SamplingMask | None = None) -> Floats:
        """float64 [L], nats: of each id after those before it, at its temperature, and among the ids of its mask where
        it has any; 0 for the first, and where the temperature is 0, since greedy sampling is certain of its choice."""
        hidden = self._model.hidden([Segment(self._model.begin(len(ids)), ids)])[:-1]
        found = np.zeros(len(ids))
        for start in range(0, len(hidden), ROWS):
            stop = min(start + ROWS, len(hidden))
            after = slice(start + 1, stop + 1)
            at = np.where(temperatures[after] > 0, temperatures[after], 1.0)[:, None]
            scaled = self._model.logits(hidden[start:stop]).astype(np.float64) / at
            scaled -= scaled.max(axis=1, keepdims=True)
            chosen = scaled[np.arange(stop - start), ids[after]]
            normalisers = np.log(np.exp(scaled).sum(axis=1))
            if mask is not None:
                for row in np.flatnonzero(np.diff(mask.offsets)[after]).tolist():
                    normalisers[row] = np.logaddexp.reduce(scaled[row, mask.at(start + 1 + row)])
            found[after] = np.where(temperatures[after] > 0, chosen - normalisers, 0.0)
        return found
