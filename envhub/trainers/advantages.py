"""Advantages within a group."""

import numpy as np
from numpy.typing import NDArray

from envhub.errors import UsageError


def group_advantages(rewards: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """float64 [K]: r_j - rbar, with rbar the mean over valid members (arXiv:2602.02276 §4.4.2).

    A member that is not valid has no advantage: NaN, so that using it shows. Its reward is not read.

    Raises:
        UsageError: shapes differ, or the reward of a valid member is not finite.
    """
    rewards = np.asarray(rewards, np.float64)
    valid = np.asarray(valid)
    if rewards.ndim != 1 or valid.shape != rewards.shape:
        raise UsageError(
            f"rewards has shape {rewards.shape}, valid {valid.shape}; both must be [K], one for each member"
        )
    if valid.dtype != np.bool_:
        raise UsageError(f"valid has dtype {valid.dtype}; it must be bool")
    if not np.isfinite(rewards[valid]).all():
        raise UsageError(
            f"rewards of valid members must be finite, but are {rewards[valid]}; mark the others not valid"
        )
    advantages = np.full_like(rewards, np.nan)
    if valid.any():
        advantages[valid] = rewards[valid] - rewards[valid].mean()
    return advantages
