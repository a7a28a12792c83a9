"""RolloutTable: all rollouts of a store, a column a fact, in memory: filtered, sorted and counted in milliseconds.

A million takes about 120 MB, and some seconds to be read for the first time. After that a refresh reads what is new,
and what has ended of the rest; rollouts that ended never change.

Invariants: rows are in the order of their places; the columns that anybody was given are never changed but for rows of
rollouts that run.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import anyio
import numpy as np
from anyio.to_thread import run_sync
from numpy.typing import NDArray

from envhub.contracts.outcome import Status
from envhub.contracts.store import BrowsableStore, RolloutFacts
from envhub.errors import Boundary

CHUNK = 20_000  # rollouts read at once
RUNNING = "running"  # in place of a status
STATUSES = (RUNNING, *Status)  # by code
BOUNDARIES = ("", *Boundary)  # by code; "": it did not fail

Column: TypeAlias = NDArray[Any]  # of the type that DTYPES says
Mask: TypeAlias = NDArray[np.bool_]

NAMED = ("run_id", "group_id", "environment", "task_id", "policy_id", "truncated_by")  # texts, kept as codes
DTYPES: Mapping[str, str] = {
    "place": "i8", **dict.fromkeys(NAMED, "i4"),
    "member": "i4", "is_root": "?", "status": "i1", "failure": "i1", "requeued": "?",
    "turns": "i4", "prompt_tokens": "i8", "sampled_tokens": "i8", "version_min": "i8", "version_max": "i8",
    "reward": "f8", "started_at": "f8", "ended_at": "f8",  # NaN: none
}  # fmt: skip
_CODES: Mapping[str, Mapping[str | None, int]] = {
    "status": {None: 0, **{status: code for code, status in enumerate(STATUSES)}},
    "failure": {None: 0, **{boundary: code for code, boundary in enumerate(BOUNDARIES)}},
}


class Names:
    """Texts and their codes, from 0 on in the order in which they came."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """-1: there is none."""
        return self._codes.get(text, -1)

    def add(self, texts: Iterable[str]) -> list[int]:
        codes = self._codes
        found = [codes.setdefault(text, len(codes)) for text in texts]
        self.texts += list(codes)[len(self.texts) :]
        return found


class RolloutTable:
    """The rollouts of one store."""

    def __init__(self, store: BrowsableStore) -> None:
        self.store = store
        self.names = {name: Names() for name in NAMED}
        self.revision = 0  # grows with every change
        self._size = 0
        self._columns: dict[str, Column] = {name: np.empty(0, dtype) for name, dtype in DTYPES.items()}
        self._running: NDArray[np.int64] = np.empty(0, np.int64)  # rows
        self._refreshing = anyio.Lock()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, name: str) -> Column:
        return self._columns[name][: self._size]

    def row_of(self, place: int) -> int:
        """The first row at or past a place."""
        return int(np.searchsorted(self["place"], place))

    def text(self, name: str, row: int) -> str:
        """What a coded column says there."""
        return self.names[name].texts[int(self._columns[name][row])]

    async def refresh(self) -> None:
        """Reads what the store has by now."""
        async with self._refreshing:
            await self._read_ended()
            while await self._read_new():
                pass

    async def _read_new(self) -> bool:
        after = int(self._columns["place"][self._size - 1]) if self._size else 0
        facts = await self.store.facts(after, CHUNK)
        if facts:
            await run_sync(self._append, facts)
        return len(facts) == CHUNK

    async def _read_ended(self) -> None:
        if not len(self._running):
            return
        facts = await self.store.ended_facts(self._columns["place"][self._running].tolist())
        if facts:
            self._put(np.searchsorted(self["place"], [fact.place for fact in facts]), facts)
            self._running = self._running[self._columns["status"][self._running] == 0]
            self.revision += 1

    def _append(self, facts: Sequence[RolloutFacts]) -> None:
        size = self._size + len(facts)
        if size > len(self._columns["place"]):
            self._grow(max(size, 2 * self._size))
        rows = np.arange(self._size, size)
        self._put(rows, facts)
        self._running = np.concatenate((self._running, rows[self._columns["status"][rows] == 0]))
        self._size = size
        self.revision += 1

    def _grow(self, capacity: int) -> None:
        for name, column in self._columns.items():
            grown = np.empty(capacity, column.dtype)
            grown[: self._size] = column[: self._size]
            self._columns[name] = grown

    def _put(self, rows: NDArray[np.int64], facts: Sequence[RolloutFacts]) -> None:
        for name, values in zip(RolloutFacts._fields, zip(*facts, strict=True), strict=True):
            self._columns[name][rows] = self._coded(name, values)

    def _coded(self, name: str, values: Sequence[Any]) -> Column | list[int]:
        if name in self.names:
            return self.names[name].add(values)
        if name in _CODES:
            codes = _CODES[name]
            return [codes[value] for value in values]
        return np.array(values, DTYPES[name])  # None becomes NaN
