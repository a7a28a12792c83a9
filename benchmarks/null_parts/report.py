"""The benchmark's figures."""

import os
import sys
from collections.abc import Mapping

from benchmarks.null_parts.load import OUTPUT, PROMPT, TURNS, Load
from benchmarks.null_parts.meter import Cost
from envhub.app import LOOP


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {LOOP}"


def figures(load: Load, costs: Mapping[str, Cost]) -> list[dict[str, object]]:
    own, floor = costs["envhub"], costs["floor"]
    per_turn, floor_per_turn = own.cpu_s / load.turns * 1e6, floor.cpu_s / load.turns * 1e6
    stretch = own.wall_s / load.ideal_s
    return [
        figure("cpu_us_per_turn", per_turn, "us", floor_per_turn, "<= 100", per_turn <= 100),
        figure("wall_over_ideal", stretch, "ratio", floor.wall_s / load.ideal_s, "<= 1.25", stretch <= 1.25),
        figure("kib_per_live_episode", own.kib_per_live, "KiB", floor.kib_per_live, "<= 20 + tokens", memory_ok(own)),
        figure("loop_lag_p99", own.lag_p99_ms, "ms", floor.lag_p99_ms, "<= 250", own.lag_p99_ms <= 250),
        figure("failures", own.failures, "rollouts", floor.failures, "0", own.failures == 0),
        figure("prompt_ids_per_turn", own.prompt_ids, "ids", PROMPT, f"{PROMPT}", own.prompt_ids == PROMPT),
        figure("findings_of_verify", own.findings, "findings", 0, "0", own.findings == 0),
    ]


def memory_ok(own: Cost) -> bool:
    """Tokens of an episode: ids of 4 bytes, and 4 more for each log probability."""
    tokens_kib = TURNS * (4 * (PROMPT + OUTPUT) + 4 * OUTPUT) / 1024
    return own.kib_per_live <= 20 + tokens_kib


def figure(name: str, value: float, unit: str, floor: float, goal: str, ok: bool | None) -> dict[str, object]:
    ratio = round(value / floor, 2) if floor else None
    return {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "floor": round(floor, 2),
        "ratio": ratio,
        "goal": goal,
        "ok": ok,
    }
