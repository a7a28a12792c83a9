"""Figures, and the CPU time of a call."""

import time
from collections.abc import Callable
from typing import TypeAlias

Figure: TypeAlias = dict[str, object]


def best_ms(call: Callable[[], object], rounds: int) -> float:
    """Of the CPU, the best of several rounds."""
    times = []
    for _ in range(rounds):
        began = time.process_time_ns()
        call()
        times.append(time.process_time_ns() - began)
    return min(times) / 1e6


def at_most(name: str, value: float, unit: str, most: float, floor: float) -> Figure:
    """A figure that may be no higher."""
    return {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "floor": round(floor, 3),
        "ratio": round(value / floor, 2) if floor else None,
        "goal": f"<= {most:g}",
        "ok": value <= most,
    }


def share_of(name: str, value: float, unit: str, least: float, floor: float) -> Figure:
    """A figure that is to reach a share of its floor."""
    return {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "floor": round(floor, 1),
        "ratio": round(value / floor, 2),
        "goal": f">= {least:g}x",
        "ok": value >= least * floor,
    }
