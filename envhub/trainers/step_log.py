"""StepLog: the numbers of a training run, a line a step: JSON in a file, and rows of a table to print."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class StepLog:
    """Goes on with the file of an earlier process, whose first `steps` lines are in the weights. What came after them a
    kill has undone, and it is taken out."""

    def __init__(self, path: Path, steps: int = 0) -> None:
        self._path = path
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        path.write_text("".join(lines[:steps]))
        self._named = False
        self._laps: dict[str, float] = {}
        self._lap_began = time.monotonic()

    def lap(self, name: str) -> None:
        """The time since the last one, in seconds, goes into the next line, and those of its name into later ones."""
        began, self._lap_began = self._lap_began, time.monotonic()
        self._laps[name] = self._lap_began - began

    def write(self, figures: Mapping[str, float], groups: Sequence[int]) -> str:
        """The row of a step, which trained on these groups; the first one below the names. In the file once this
        returns: call it before a checkpoint has the step."""
        line = {**figures, **self._laps}
        with self._path.open("a") as file:
            file.write(json.dumps({**line, "groups": list(groups)}) + "\n")
        row = " ".join(map(_shown, line.values()))
        if self._named:
            return row
        self._named = True
        return " ".join(f"{name:>9}" for name in line) + "\n" + row


def _shown(value: float) -> str:
    return f"{value:9}" if isinstance(value, int) else f"{value:9.3g}"
