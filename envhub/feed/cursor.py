"""Cursor: which groups the weights have seen. To be saved in the same checkpoint as weights and optimizer."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from envhub.contracts.ids import RunId
from envhub.errors import UsageError


class Cursor:
    """Numbers of groups by run, kept as ranges: some bytes, however long the run."""

    def __init__(self, ranges: Mapping[str, Sequence[Sequence[int]]] | None = None) -> None:
        """From what `as_json` gave.

        Raises:
            UsageError: it is something else.
        """
        self._ranges: dict[RunId, list[tuple[int, int]]] = {}
        for run_id, pairs in (ranges or {}).items():
            self._ranges[RunId(run_id)] = [_pair(run_id, pair) for pair in pairs]
            flat = [number for pair in self._ranges[RunId(run_id)] for number in pair]
            if flat != sorted(flat):
                raise UsageError(f"the cursor's ranges of run '{run_id}' don't rise; give what as_json() gave")

    def as_json(self) -> dict[str, list[list[int]]]:
        """By run, [first, last] of each range."""
        return {run_id: [list(pair) for pair in pairs] for run_id, pairs in self._ranges.items()}

    def add(self, run_id: RunId, number: int) -> None:
        pairs = self._ranges.setdefault(run_id, [])
        at = bisect_right(pairs, (number, number))
        if (run_id, number) in self:
            return
        first, last = number, number
        if at < len(pairs) and pairs[at][0] == number + 1:
            last = pairs.pop(at)[1]
        if at and pairs[at - 1][1] == number - 1:
            at -= 1
            first = pairs.pop(at)[0]
        pairs.insert(at, (first, last))

    def __contains__(self, group: tuple[RunId, int]) -> bool:
        run_id, number = group
        pairs = self._ranges.get(run_id, [])
        at = bisect_right(pairs, number, key=lambda pair: pair[0])
        return at > 0 and number <= pairs[at - 1][1]

    def __len__(self) -> int:
        """How many groups."""
        return sum(last - first + 1 for pairs in self._ranges.values() for first, last in pairs)


def _pair(run_id: str, pair: Sequence[int]) -> tuple[int, int]:
    if len(pair) != 2 or not all(isinstance(number, int) for number in pair):
        raise UsageError(f"the cursor of run '{run_id}' has {pair!r}; each range must be two whole numbers")
    return pair[0], pair[1]
