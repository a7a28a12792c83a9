"""Figures of a training step, for a log: what was sampled, what the objective makes of it, and how far it is off."""

import numpy as np

from envhub.contracts.ids import PolicyVersion
from envhub.trainers.batch import Floats, TokenBatch
from envhub.trainers.mismatch import mismatch, mixed_share, staleness
from envhub.trainers.objective import K25Settings, k25_objective


def k25_figures(
    batch: TokenBatch, new_logprobs: Floats, newest: PolicyVersion, settings: K25Settings
) -> dict[str, float]:
    """Of a step on eq. 1: length and objective, mismatch and staleness. `new_logprobs`, float64 [T], nats, are those
    before the step, under the weights of version `newest`.

    Raises:
        UsageError: as of k25_objective.
    """
    objective, distance = k25_objective(batch, new_logprobs, settings), mismatch(batch, new_logprobs)
    ages, tokens = staleness(batch, newest), int(batch.trainable.sum())
    return {
        "tokens": tokens,  # that train
        "length": tokens / len(np.unique(batch.members)),  # of them, of a member
        "loss": objective.loss,
        "masked": objective.masked_share,
        "k1": distance.k1,
        "k3": distance.k3,
        "ess": distance.ess,
        "age": sum(age * count for age, count in ages.items()) / tokens,  # versions behind, of a token
        "mixed": mixed_share(batch),
    }
