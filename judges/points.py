"""Point localisation: F1 of points with soft matches from their distance.

arXiv:2602.02276 §4.4.2 names the reward (soft matches from Gaussian-weighted distance under optimal matching) and gives
no formula. Ours: the similarity of two points at distance d is exp(-d^2 / (2 sigma^2)); points are paired one to one so
that similarities add up to the most; F1 = 2 * sum / (predicted + true).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError
from judges.assignment import SoftF1, soft_f1
from judges.coordinates import FARTHEST, items_in, rows_of, true_items, under_labels, within_reach
from judges.structured import NoJson

KEYS = ("point", "point_2d", "xy")
AXES = ("x", "y")


@dataclass(frozen=True, slots=True)
class PointsF1:
    """Soft F1 of the points of a response against those of the task's answer, both JSON lists of [x, y] or of
    {"point": [x, y], "label": ...}. Where a true point has a label, a point matches it under that label only.

    `sigma` is in the unit of the coordinates: at that distance a match counts 0.61, at three times that 0.01. A
    predicted point that is none matches nothing and still counts. A response without a JSON list scores 0.

    Raises:
        UsageError: `sigma` is not positive; (of a call) a task whose answer is no list of points.
    """

    sigma: float

    def __post_init__(self) -> None:
        _check(self.sigma)

    def __call__(self, input: JudgeInput) -> Score:
        true = true_items(input.task, KEYS, 2, "points [x, y]")
        try:
            predicted = items_in(input.response, KEYS, 2)
        except NoJson as error:
            return Score(0.0, SoftF1(0.0, 0, 1).components(), str(error))
        similarity = closeness(predicted.rows, true.rows, self.sigma)
        result = soft_f1(under_labels(similarity, predicted, true))
        parts = result.components()
        return Score(parts["f1"], parts, f"{result.predicted} points where {result.true} are right")


def points_f1(predicted: ArrayLike, true: ArrayLike, *, sigma: float) -> SoftF1:
    """Soft F1 of arrays of points [N, 2] and [M, 2]. Predicted rows that are not finite match nothing and count.

    Raises:
        UsageError: an array of another shape, a true row that is not finite, or `sigma` is not positive.
    """
    _check(sigma)
    ours, theirs = rows_of(predicted, AXES, "points"), rows_of(true, AXES, "points")
    if not within_reach(theirs).all():
        raise UsageError(f"a true point is not finite, or has a coordinate over {FARTHEST:g}")
    return soft_f1(closeness(np.where(within_reach(ours)[:, None], ours, np.nan), theirs, sigma))


def closeness(left: NDArray[np.float64], right: NDArray[np.float64], sigma: float) -> NDArray[np.float64]:
    """exp(-d^2 / (2 sigma^2)) of every point of one, [N, 2], with every one of the other, [M, 2]; 0 of one that is
    NaN."""
    squares = np.square(left[:, None] - right)
    return np.fmax(np.exp((squares[..., 0] + squares[..., 1]) / (-2 * sigma**2)), 0.0)


def _check(sigma: float) -> None:
    if not 1e-9 <= sigma <= FARTHEST:
        raise UsageError(f"sigma is {sigma}; it must lie between 1e-9 and {FARTHEST:g}, in the unit of the coordinates")
