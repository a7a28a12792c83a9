"""Boxes, points and polygons as JSON says them: what a response holds, and what a task's answer must."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike, NDArray

from envhub.contracts.messages import JsonValue
from envhub.contracts.task import Task
from envhub.errors import UsageError
from judges.structured import NoJson, json_in
from judges.text import words

MOST = 1000  # items of an answer
LISTS, NUMBERS = frozenset({list, tuple}), frozenset({int, float})
FARTHEST = 1e9  # a coordinate beyond it is none

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """Boxes or points: a row of numbers each, NaN where they make none; their labels, "" for none."""

    rows: Floats  # [N, 4 or 2]
    labels: tuple[str, ...] = ()  # of all, or of none

    def __len__(self) -> int:
        return len(self.rows)


def items_in(response: str, keys: Sequence[str], count: int) -> Items:
    """The items that a response gives: a list of lists of `count` numbers, or of objects that hold one under one of
    `keys`, with or without a "label". A single one needs no list around it.

    Raises:
        NoJson: there is no such list, or it is too long.
    """
    value = json_in(response)
    if isinstance(value, Mapping) or (_is_flat(value) and _numbers([value], count) is not None):
        value = [value]
    if not isinstance(value, list):
        raise NoJson("the response's JSON is no list")
    if len(value) > MOST:
        raise NoJson(f"the response has {len(value)} items; at most {MOST} are read")
    return _items(value, keys, count)


def true_items(task: Task, keys: Sequence[str], count: int, what: str) -> Items:
    """The items of a task's answer, in the same form.

    Raises:
        UsageError: it is no such list, or an item of it is none.
    """
    if not isinstance(task.answer, list | tuple):
        raise UsageError(f"task '{task.id}' has the answer {task.answer!r:.200}; it must be a list of {what}")
    items = _items(task.answer, keys, count)
    if items.labels and len(bad := np.flatnonzero(np.isnan(items.rows[:, 0]))):  # rows alone are numbers, all of them
        raise UsageError(f"task '{task.id}': {task.answer[bad[0]]!r:.200} in its answer is none of its {what}")
    return items


def under_labels(similarity: Floats, predicted: Items, true: Items) -> Floats:
    """A similarity [predicted, true] where they may be paired, else 0: a true item with a label only with what bears
    it."""
    if not any(true.labels):
        return similarity
    ours = predicted.labels or ("",) * len(predicted)
    same: NDArray[np.bool_] = np.array(
        [[not label or mine == label for label in true.labels] for mine in ours]
    ).reshape(len(ours), -1)
    return np.where(same, similarity, 0.0)


def rows_of(given: ArrayLike, columns: Sequence[str], what: str) -> Floats:
    """What a caller gives, as [N, columns].

    Raises:
        UsageError: it has another shape.
    """
    rows = np.asarray(given, dtype=np.float64)
    if rows.size == 0:
        return rows.reshape(0, len(columns))
    if rows.ndim != 2 or rows.shape[1] != len(columns):
        raise UsageError(f"{what} of shape {rows.shape}; they must be [N, {len(columns)}]: {', '.join(columns)}")
    return rows


def within_reach(rows: Floats) -> NDArray[np.bool_]:
    """Which rows have no coordinate that is too far, or NaN."""
    within: NDArray[np.bool_] = np.all(np.abs(rows) <= FARTHEST, axis=-1)  # a NaN is not
    return within


def polygon_in(value: JsonValue) -> list[Floats] | None:
    """The polygons of a JSON value: one, as a list of [x, y], or a list of them; None where it is neither."""
    if not isinstance(value, list | tuple):
        return None
    alone = _vertices(value)
    polygons = [_vertices(one) for one in value] if alone is None else [alone]
    found = [polygon for polygon in polygons if polygon is not None]
    return found if len(found) == len(polygons) else None


def _is_flat(value: JsonValue) -> bool:
    return isinstance(value, list) and bool(value) and type(value[0]) in NUMBERS


def _vertices(value: JsonValue) -> Floats | None:
    return _numbers(value, 2) if isinstance(value, list | tuple) and len(value) >= 3 else None


def _items(values: Sequence[JsonValue], keys: Sequence[str], count: int) -> Items:
    rows = _numbers(values, count)
    if rows is not None:
        return Items(rows)
    nothing = np.full((1, count), np.nan)
    given = [_coordinates(value, keys) for value in values]
    read = [_numbers([one], count) for one in given]
    labels = tuple(_label(value) for value in values)
    return Items(np.concatenate([np.empty((0, count)), *[nothing if row is None else row for row in read]]), labels)


def _coordinates(value: JsonValue, keys: Sequence[str]) -> JsonValue:
    return next((value[key] for key in keys if key in value), None) if isinstance(value, Mapping) else value


def _label(value: JsonValue) -> str:
    label = value.get("label") if isinstance(value, Mapping) else None
    return words(label) if isinstance(label, str) else ""


def _numbers(values: Sequence[JsonValue], count: int) -> Floats | None:
    """Rows of so many numbers each, finite and within reach; None where one is anything else."""
    if not {*map(type, values)} <= LISTS or not {*map(len, values)} <= {count}:  # type: ignore[arg-type]
        return None
    flat: list[float] = [*chain.from_iterable(values)]  # type: ignore[arg-type]
    if not {*map(type, flat)} <= NUMBERS:
        return None
    if math.isnan(sum(flat)) or (flat and max(max(flat), -min(flat)) > FARTHEST):
        return None
    return np.array(flat, dtype=np.float64).reshape(-1, count)
