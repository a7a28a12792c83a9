"""Polygon IoU, against scikit-image's raster, shapely's areas, and parity counted point by point."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from envhub.contracts.ids import TaskId
from envhub.contracts.messages import Message
from envhub.contracts.task import Task
from envhub.errors import UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import PolygonIoU
from judges.polygons import mask_iou, rasterised
from tests.judges.linear import linear

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]
BOW_TIE = [[0, 0], [40, 40], [40, 0], [0, 40]]


def ask(answer: object, size: object = (64, 48)) -> Task:
    return Task(TaskId("cat"), (Message.user("Outline the cat."),), answer, {"size": size})


TASK = ask(SQUARE)


class TestPolygon(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return PolygonIoU()

    @pytest.fixture
    def gold(self):
        return answered(TASK, f"It is {SQUARE[::-1]}")

    @pytest.fixture
    def wrong(self):
        return answered(TASK, "[[10, 10], [30, 10], [30, 30], [10, 29]]")


VERTEX = st.tuples(st.floats(-5, 25), st.floats(-5, 20))
POLYGON = st.lists(VERTEX, min_size=3, max_size=7)


def inside(x: float, y: float, polygon) -> bool:
    """Even-odd, by a ray to the left."""
    odd = False
    for (ax, ay), (bx, by) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (ay > y) != (by > y) and x > ax + (y - ay) / (by - ay) * (bx - ax):
            odd = not odd
    return odd


def clear_of_centres(polygon) -> bool:
    """No edge passes a pixel's centre so closely that rounding decides."""
    ring = shapely.LinearRing(polygon)
    return all(ring.distance(shapely.Point(c + 0.5, r + 0.5)) > 1e-9 for r in range(15) for c in range(20))


@settings(deadline=None, max_examples=60)
@given(POLYGON)
def test_a_pixel_is_covered_where_its_centre_lies_inside(polygon):
    assume(clear_of_centres(polygon))
    mask = rasterised([polygon], (15, 20))
    assert [[inside(c + 0.5, r + 0.5, polygon) for c in range(20)] for r in range(15)] == mask.tolist()


@settings(deadline=None, max_examples=60)
@given(POLYGON)
def test_it_covers_what_scikit_image_covers(polygon):
    assume(clear_of_centres(polygon))
    theirs = polygon2mask((15, 20), [(y - 0.5, x - 0.5) for x, y in polygon])
    assert (rasterised([polygon], (15, 20)) == theirs).all()


@settings(deadline=None, max_examples=40)
@given(st.lists(st.floats(0.3, 1), min_size=5, max_size=12), st.lists(st.floats(0.3, 1), min_size=5, max_size=12))
def test_iou_is_that_of_shapelys_areas_within_what_the_raster_rounds(left, right):
    def star(radii, x):
        turns = [2 * math.pi * k / len(radii) for k in range(len(radii))]
        return [(x + 90 * r * math.cos(t), 100 + 90 * r * math.sin(t)) for r, t in zip(radii, turns, strict=True)]

    one, other = star(left, 100), star(right, 110)
    a, b = shapely.Polygon(one), shapely.Polygon(other)
    ours = mask_iou(rasterised([one], (200, 210)), rasterised([other], (200, 210)))
    rounding = (a.length + b.length) / a.union(b).area  # at most the pixels that an edge passes
    assert ours == pytest.approx(a.intersection(b).area / a.union(b).area, abs=rounding)


@settings(deadline=None)
@given(POLYGON, POLYGON, st.integers(0, 6))
def test_iou_is_bounded_symmetric_and_blind_to_where_a_polygon_begins(one, other, turn):
    a, b = rasterised([one], (15, 20)), rasterised([other], (15, 20))
    assert 0 <= mask_iou(a, b) <= 1
    assert mask_iou(a, b) == mask_iou(b, a)
    assert mask_iou(a, a) == 1
    turned = one[turn % len(one) :] + one[: turn % len(one)]
    assume(clear_of_centres(one))
    assert (rasterised([turned], (15, 20)) == a).all()
    assert (rasterised([one[::-1]], (15, 20)) == a).all()


@pytest.mark.parametrize(
    ("polygon", "iou"),
    [
        (SQUARE, 1),
        ([SQUARE], 1),
        ([[10, 10], [30, 10], [30, 20], [10, 20]], 0.5),
        ([[20, 10], [40, 10], [40, 30], [20, 30]], 1 / 3),
        ([SQUARE, [[40, 10], [50, 10], [50, 30], [40, 30]]], 2 / 3),  # two parts
        ([SQUARE, SQUARE], 1),  # several polygons: what any of them covers
        ([*SQUARE, SQUARE[0]], 1),  # closed
        ([[10, 10], [30, 10], [20, 10]], 0),  # flat
        ([[-1000, -1000], [1000, -1000], [1000, 1000], [-1000, 1000]], 400 / (64 * 48)),
        ([[0, 0], [1, 1]], 0),
        ([], 0),
        ([[[0, 0]]], 0),
        ([[0, 0], [1, 0], [1, None]], 0),
        ([[0, 0], [1, 0], [1, 1e300]], 0),
        ({"polygon": SQUARE}, 0),
        ([[0.5, 0.5]] * 5000, 0),
    ],
)
def test_a_table_of_answers(polygon: object, iou: float):
    assert PolygonIoU()(answered(TASK, json.dumps(polygon))).scalar == pytest.approx(iou)


def test_a_polygon_that_crosses_itself_covers_by_even_and_odd():
    mask = rasterised([BOW_TIE], (40, 40))
    assert mask.sum() == pytest.approx(800, abs=41)  # two triangles
    twice = [[0, 0], [40, 0], [40, 40], [0, 40]] * 2
    assert not rasterised([twice], (40, 40)).any()
    assert PolygonIoU()(answered(ask(BOW_TIE), json.dumps(BOW_TIE))).scalar == 1.0


def test_a_mask_in_run_lengths_is_a_truth():
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:30, 10:30] = True
    flat = mask.T.reshape(-1)
    edges = [0, *(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    counts = [stop - start for start, stop in pairwise(edges)]
    task = ask({"size": [48, 64], "counts": counts}, size=None)
    assert PolygonIoU()(answered(task, json.dumps(SQUARE))).scalar == 1.0
    assert PolygonIoU(most_side=32)(answered(task, json.dumps(SQUARE))).scalar == 1.0


def test_a_large_image_is_made_smaller():
    big = ask([[1000 * x, 1000 * y] for x, y in SQUARE], size=(64_000, 4_000))
    with pytest.raises(UsageError, match="covers no pixel"):
        PolygonIoU()(answered(big, "[]"))
    wide = ask([[100, 100], [9000, 100], [9000, 3000], [100, 3000]], size=(10_000, 4_000))
    half = [[100, 100], [4550, 100], [4550, 3000], [100, 3000]]
    assert PolygonIoU()(answered(wide, json.dumps(half))).scalar == pytest.approx(0.5, abs=0.002)


def test_the_most_vertices_are_rasterised_in_time():
    zigzag = [[k % 2 * 1023, k / 4] for k in range(4096)]
    with linear():
        PolygonIoU()(answered(ask(SQUARE, size=(1024, 1024)), json.dumps(zigzag)))


@pytest.mark.parametrize(
    "task",
    [
        ask(None),
        ask([]),
        ask([[0, 0], [1, 1]]),
        ask([[100, 100], [120, 100], [120, 120]]),
        ask(SQUARE, size=None),
        ask(SQUARE, size=[0, 5]),
        ask(SQUARE, size=[1 << 20, 1 << 20]),
        ask({"size": [2, 2], "counts": [1, 1]}),
        ask({"size": [2, 2], "counts": [4]}),
        ask({"size": [2, 2], "counts": "abc"}),
    ],
)
def test_a_truth_that_is_none_is_the_tasks_fault(task: Task):
    with pytest.raises(UsageError, match="task 'cat'"):
        PolygonIoU()(answered(task, json.dumps(SQUARE)))


def test_masks_of_different_images_are_refused():
    with pytest.raises(UsageError, match="must be of one image"):
        mask_iou(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(UsageError, match="most_side"):
        PolygonIoU(most_side=0)
