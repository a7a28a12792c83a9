"""Mismatch: how far the policy being trained is from the one that sampled, on the tokens that train."""

from dataclasses import dataclass

import numpy as np

from envhub.contracts.ids import PolicyVersion
from envhub.trainers.batch import Floats, TokenBatch
from envhub.trainers.corrections import row_means
from envhub.trainers.objective import log_ratios


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Estimates over trainable tokens, with w = pi_new / pi_old of a token that pi_old sampled."""

    k1: float  # mean(-log w), nats: estimates KL(old || new), unbiased, may be negative
    k3: float  # mean(w - 1 - log w), nats: the same KL, unbiased, never negative
    ess: float  # (sum w)^2 / (n sum w^2): effective sample size as a share of n, 1/n to 1
    max_ratio: float  # the largest w
    ppl_ratio: float  # perplexity under pi_new over that under pi_old, the mean over rows that train


def mismatch(batch: TokenBatch, new_logprobs: Floats) -> Mismatch:
    """The metrics at `new_logprobs`, float64 [T], nats. What eq. 1 masks is Objective.masked_share, and what a
    correction masks is corrections.masked_share.

    Raises:
        UsageError: as of k25_objective.
    """
    ratios = log_ratios(batch, new_logprobs)
    log_w = ratios[batch.trainable]
    largest = log_w.max()
    scaled = np.exp(log_w - largest)  # ess does not depend on a common factor
    with np.errstate(over="ignore"):  # a ratio over 1e308 is told as infinite
        w = np.exp(log_w)
        perplexities = np.exp(-row_means(batch, ratios))
    return Mismatch(
        k1=float(-log_w.mean()),
        k3=float(np.mean(w - 1.0 - log_w)),
        ess=float(scaled.sum() ** 2 / (scaled.size * np.sum(scaled**2))),
        max_ratio=float(w.max()),
        ppl_ratio=float(perplexities[np.unique(batch.token_rows[batch.trainable])].mean()),
    )


def staleness(batch: TokenBatch, newest: PolicyVersion) -> dict[int, int]:
    """How many trainable tokens are how many versions older than `newest`, by age."""
    ages, counts = np.unique(newest - batch.versions[batch.trainable], return_counts=True)
    return dict(zip(ages.tolist(), counts.tolist(), strict=True))


def mixed_share(batch: TokenBatch) -> float:
    """Of the rows that train, those with trainable tokens of several versions: new weights came while they were
    sampled."""
    rows, versions = batch.token_rows[batch.trainable], batch.versions[batch.trainable]
    of_a_row = np.unique(np.stack([rows, versions]), axis=1)[0]  # once for each of its versions
    return float(np.mean(np.unique(of_a_row, return_counts=True)[1] > 1))
