"""Visual grounding: F1 of boxes with soft matches from their IoU.

arXiv:2602.02276 §4.4.2 names the reward, F1 with soft matches from IoU, and gives no formula. Ours: boxes are paired
one to one so that their IoUs add up to the most; F1 = 2 * sum / (predicted + true).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError
from judges.assignment import SoftF1, soft_f1
from judges.coordinates import FARTHEST, items_in, rows_of, true_items, under_labels, within_reach
from judges.structured import NoJson

KEYS = ("bbox", "box", "bbox_2d")
SIDES = ("left", "top", "right", "bottom")


@dataclass(frozen=True, slots=True)
class GroundingF1:
    """Soft F1 of the boxes of a response against those of the task's answer, both JSON lists of [left, top, right,
    bottom] or of {"bbox": [...], "label": ...}. Where a true box has a label, a box matches it under that label only.

    An IoU below `least_iou` is no match. A predicted box that is none, inside out or empty, matches nothing and still
    counts as predicted. A response without a JSON list scores 0.

    Raises:
        UsageError: `least_iou` out of its range; (of a call) a task whose answer is no list of boxes.
    """

    least_iou: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.least_iou <= 1:
            raise UsageError(f"least_iou is {self.least_iou}; it must lie between 0 and 1")

    def __call__(self, input: JudgeInput) -> Score:
        true = true_items(input.task, KEYS, 4, "boxes [left, top, right, bottom]")
        areas = _areas(true.rows)
        if not areas.all():
            raise UsageError(f"task '{input.task.id}': a box of its answer is inside out or empty")
        try:
            predicted = items_in(input.response, KEYS, 4)
        except NoJson as error:
            return Score(0.0, SoftF1(0.0, 0, 1).components(), str(error))
        similarity = _cut(_iou(predicted.rows, true.rows, areas), self.least_iou)
        result = soft_f1(under_labels(similarity, predicted, true))
        parts = result.components()
        return Score(parts["f1"], parts, f"{result.predicted} boxes where {result.true} are right")


grounding = GroundingF1()


def grounding_f1(predicted: ArrayLike, true: ArrayLike, *, least_iou: float = 0.0) -> SoftF1:
    """Soft F1 of arrays of boxes [N, 4] and [M, 4]. Predicted rows that are no box match nothing and count.

    Raises:
        UsageError: an array of another shape, or a true row that is no box.
    """
    ours, theirs = rows_of(predicted, SIDES, "boxes"), rows_of(true, SIDES, "boxes")
    if not (_areas(theirs).all() and within_reach(theirs).all()):
        raise UsageError(
            f"a true box is inside out, empty, NaN, or beyond {FARTHEST:g}; boxes are left < right, top < bottom"
        )
    return soft_f1(_cut(iou(np.where(within_reach(ours)[:, None], ours, 0.0), theirs), least_iou))


def iou(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of every box of one, [N, 4], with every one of the other, [M, 4], of which all must have
    an area. A box that is inside out, empty or NaN has none, and shares none."""
    return _iou(left, right, _areas(right))


def _iou(left: NDArray[np.float64], right: NDArray[np.float64], areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """`areas` are those of `right`."""
    sides = np.minimum(left[:, None, 2:], right[:, 2:]) - np.maximum(left[:, None, :2], right[:, :2])
    shared = _product(np.fmax(sides, 0.0))
    return np.minimum(shared / (_areas(left)[:, None] + areas - shared), 1.0)


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return _product(np.fmax(boxes[:, 2:] - boxes[:, :2], 0.0))  # fmax makes 0 of a NaN


def _product(sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """Width times height; several times as fast as prod(-1) for two of them."""
    areas: NDArray[np.float64] = sides[..., 0] * sides[..., 1]
    return areas


def _cut(similarity: NDArray[np.float64], least: float) -> NDArray[np.float64]:
    """0 in place of what is below the least."""
    if least:
        similarity[similarity < least] = 0.0
    return similarity
