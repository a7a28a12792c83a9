"""Curves in the terminal: one line of blocks."""

import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 60  # characters


def sparkline(values: Sequence[float], width: int = WIDTH) -> str:
    """A block a value, of many the mean of each few; a space where there is none (NaN)."""
    values = shortened(values, width)
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    low, span = min(known), max(known) - min(known)
    return "".join(" " if math.isnan(value) else _block((value - low) / span if span else 0.0) for value in values)


def shortened(values: Sequence[float], width: int) -> list[float]:
    """At most so many: means of equal parts."""
    if len(values) <= width:
        return list(values)
    parts = [values[len(values) * at // width : len(values) * (at + 1) // width] for at in range(width)]
    return [_mean(part) for part in parts]


def bar(share: float, width: int) -> str:
    """A bar that fills that share of the width."""
    return "█" * round(share * width)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def _block(share: float) -> str:
    return BLOCKS[min(len(BLOCKS) - 1, int(share * len(BLOCKS)))]
