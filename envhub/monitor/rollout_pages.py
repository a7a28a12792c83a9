"""Which rollouts of a table, in which order, a page at a time."""

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from envhub.errors import UsageError
from envhub.monitor.rollout_table import BOUNDARIES, STATUSES, Column, Mask, RolloutTable

MAX_LIMIT = 1_000
_CURSOR = re.compile(r"([a-z_]+)-(up|down)-(-?[0-9a-fxp.+inf-]+)-([1-9][0-9]{0,17})")


class Sort(StrEnum):
    """What rollouts are ordered by; those that have no such value come last."""

    STARTED = "started"
    ENDED = "ended"
    DURATION = "duration"
    REWARD = "reward"
    TURNS = "turns"
    SAMPLED_TOKENS = "sampled_tokens"
    PROMPT_TOKENS = "prompt_tokens"
    VERSION = "version"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rollouts. What is unset or empty does not filter; of several of one kind, any."""

    run: str = ""
    environments: Collection[str] = ()
    policy: str = ""
    statuses: Collection[str] = ()  # or "running"
    boundaries: Collection[str] = ()
    task: str = ""
    group: str = ""
    reward_min: float | None = None
    reward_max: float | None = None
    version_min: int | None = None  # at least one of its tokens is of a version from here on,
    version_max: int | None = None  # and one up to here
    roots_only: bool = False
    places: Sequence[int] | None = None  # only these

    def rows(self, table: RolloutTable) -> NDArray[np.int64]:
        """The rows that it lets through, in order."""
        return np.flatnonzero(self.mask(table))

    def mask(self, table: RolloutTable) -> Mask:
        """bool [N]"""
        mask = np.ones(len(table), np.bool_)
        for name, text in (("run_id", self.run), ("policy_id", self.policy), ("task_id", self.task)):
            if text:
                mask &= table[name] == table.names[name].code(text)
        if self.group:
            mask &= table["group_id"] == table.names["group_id"].code(self.group)
        if self.environments:
            mask &= _any_of(table["environment"], map(table.names["environment"].code, self.environments))
        if self.statuses:
            mask &= _any_of(table["status"], map(STATUSES.index, self.statuses))
        if self.boundaries:
            mask &= _any_of(table["failure"], map(BOUNDARIES.index, self.boundaries))
        if self.roots_only:
            mask &= table["is_root"]
        self._bound(table, mask)
        if self.places is not None:
            mask &= np.isin(table["place"], np.asarray(self.places, np.int64))
        return mask

    def _bound(self, table: RolloutTable, mask: Mask) -> None:
        if self.reward_min is not None:
            mask &= table["reward"] >= self.reward_min  # NaN is in no range
        if self.reward_max is not None:
            mask &= table["reward"] <= self.reward_max
        if self.version_min is not None:
            mask &= table["version_max"] >= max(self.version_min, 0)
        if self.version_max is not None:
            mask &= (table["version_min"] <= self.version_max) & (table["version_min"] >= 0)


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the rows that match."""

    rows: NDArray[np.int64]
    next_cursor: str  # "": the last page
    total: int  # that match, over all pages


def page(
    table: RolloutTable, selection: Selection, *, sort: Sort, descending: bool, limit: int, cursor: str = ""
) -> Page:
    """One page. Pages are stable while rollouts are added, but for rollouts whose value changes meanwhile.

    Raises:
        UsageError: a cursor that no page in this order gave, or a limit outside 1..1000.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise UsageError(f"limit is {limit}; a page has 1 to {MAX_LIMIT} rollouts")
    rows = selection.rows(table)
    keys = _keys(table, sort, rows, descending=descending)
    total = len(rows)
    if cursor:
        after = _after(table, rows, keys, _position(cursor, sort, descending=descending), descending=descending)
        rows, keys = rows[after], keys[after]
    chosen = _first(keys, limit + 1, sort, descending=descending)
    more = len(chosen) > limit
    chosen = chosen[:limit]
    last = _cursor(sort, keys[chosen[-1]], table["place"][rows[chosen[-1]]], descending=descending) if more else ""
    return Page(rows[chosen], last, total)


def _any_of(column: Column, codes: Iterable[int]) -> Mask:
    mask = np.zeros(len(column), np.bool_)
    for code in codes:
        mask |= column == code
    return mask


def _keys(table: RolloutTable, sort: Sort, rows: NDArray[np.int64], *, descending: bool) -> NDArray[np.float64]:
    """What is to ascend: the values, negated where they are to descend; infinite where there is none."""
    match sort:
        case Sort.STARTED:
            values = table["place"][rows]
        case Sort.ENDED:
            values = table["ended_at"][rows]
        case Sort.DURATION:
            values = table["ended_at"][rows] - table["started_at"][rows]
        case Sort.VERSION:
            values = table["version_max"][rows]
        case _:
            values = table[str(sort)][rows]
    keys: NDArray[np.float64] = values.astype(np.float64)
    if descending:
        np.negative(keys, out=keys)
    if values.dtype.kind == "f":
        keys[np.isnan(keys)] = np.inf
    return keys


def _first(keys: NDArray[np.float64], count: int, sort: Sort, *, descending: bool) -> NDArray[np.int64]:
    """Which of the keys are the first, in order. Equal ones go by their place."""
    if len(keys) > count and sort is Sort.STARTED:  # as they are
        chosen = np.arange(len(keys) - count, len(keys)) if descending else np.arange(count)
    elif len(keys) > count:
        bound = np.partition(keys, count - 1)[count - 1]
        below, equal = np.flatnonzero(keys < bound), np.flatnonzero(keys == bound)
        wanted = count - len(below)
        chosen = np.concatenate((below, equal[len(equal) - wanted :] if descending else equal[:wanted]))
    else:
        chosen = np.arange(len(keys))
    return chosen[np.lexsort((-chosen if descending else chosen, keys[chosen]))]


def _after(
    table: RolloutTable,
    rows: NDArray[np.int64],
    keys: NDArray[np.float64],
    position: tuple[float, int],
    *,
    descending: bool,
) -> Mask:
    key, place = position
    places = table["place"][rows]
    later = places < place if descending else places > place
    after: Mask = (keys > key) | ((keys == key) & later)
    return after


def _cursor(sort: Sort, key: float, place: int, *, descending: bool) -> str:
    return f"{sort}-{'down' if descending else 'up'}-{float(key).hex()}-{place}"


def _position(cursor: str, sort: Sort, *, descending: bool) -> tuple[float, int]:
    match = _CURSOR.fullmatch(cursor)
    if match is not None and (match[1], match[2]) == (sort, "down" if descending else "up"):
        try:
            key = float.fromhex(match[3])
        except ValueError:
            key = math.nan
        if not math.isnan(key):
            return key, int(match[4])
    raise UsageError(f"cursor '{cursor}' is of no page in this order; take `next_cursor` of the page before")
