"""The dashboard: lists of a million rollouts, the live overview, the page, verify, metrics and tracing:
python -m benchmarks.dashboard [--quick]

A store of rollouts is made first (rows of the table alone for the lists, whole events for verify); lists are asked over
HTTP semantics in this process, so that the figure is the API's own.
"""

import argparse
import json
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx

from benchmarks.dashboard_parts import live, page, watching
from benchmarks.dashboard_parts.rows import fill
from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.dashboard.api import create_app
from envhub.monitor.rollout_table import RolloutTable
from envhub.monitor.verify import verify
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.traces import SampleRun, sample_turn

ROLLOUTS, QUICK_ROLLOUTS = 1_000_000, 100_000
VERIFIED, QUICK_VERIFIED = 4_000, 800  # rollouts of 4 turns, 4,096 sampled tokens each
ASKED = 5  # times, each query
QUERIES: tuple[dict[str, str], ...] = (
    {},
    {"environment": "demo/env-3-v0"},
    {"status": "failed", "boundary": "judge"},
    {"policy": "policy", "version_min": "40", "version_max": "60", "reward_min": "0.9"},
    {"environment": "demo/env-1-v0", "status": "completed", "reward_max": "0.1", "roots_only": "true"},
    {"task": "task-17"},
    {"run": "big", "reward_min": "0.5", "reward_max": "0.500001"},
)
SORTS = ("started", "ended", "duration", "reward", "turns", "sampled_tokens", "prompt_tokens", "version")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_ROLLOUTS:,} rollouts instead of {ROLLOUTS:,}")
    quick: bool = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        figures = anyio.run(_measured, Path(folder), quick)
        figures += watching.measured(quick)
        figures += live.measured(Path(folder), QUICK_ROLLOUTS if quick else ROLLOUTS, quick=quick)
    figures += page.measured(quick)
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    print(json.dumps({"benchmark": "dashboard", "machine": machine, "figures": figures}))


async def _measured(folder: Path, quick: bool) -> list[dict[str, object]]:
    count = QUICK_ROLLOUTS if quick else ROLLOUTS
    figures = await _lists(folder / "many.db", count)
    figures.append(await _verified(folder / "events.db", QUICK_VERIFIED if quick else VERIFIED))
    return figures


async def _lists(path: Path, count: int) -> list[dict[str, object]]:
    _say(f"writing {count:,} rollouts")
    await (await open_store(str(path))).close()
    fill(path, count)
    store = await open_store(str(path), read_only=True)
    _say("the first look")
    began = time.process_time()
    table = RolloutTable(store)
    await table.refresh()
    load_s = time.process_time() - began
    floor_s = _floor(path)
    times, cpu_times = await _asked(store)
    await store.close()
    p95, cpu_p95 = (sorted(some)[int(0.95 * len(some))] * 1000 for some in (times, cpu_times))
    name = f"list_p95_ms_of_{count}"
    return [
        {"name": name, "value": round(p95, 1), "unit": "ms", "goal": "<= 100", "ok": p95 <= 100},
        {"name": "list_cpu_p95_ms", "value": round(cpu_p95, 1), "unit": "ms"},
        {"name": "list_max_ms", "value": round(max(times) * 1000, 1), "unit": "ms"},
        {
            "name": "first_look_cpu_s",
            "value": round(load_s, 2),
            "unit": "s",
            "floor": round(floor_s, 2),
            "ratio": round(load_s / floor_s, 2),
        },
    ]


async def _asked(store: SqlTraceStore) -> tuple[list[float], list[float]]:
    """Seconds, and CPU seconds, of each query: every filter in every order."""
    transport = httpx.ASGITransport(create_app(store, None))
    times, cpu_times = [], []
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=120) as client:
        await client.get("/api/rollouts")  # which waits for the first look
        for query in QUERIES:
            _say(f"asking {query or 'for all'}")
            for sort in SORTS * ASKED:
                began, computed = time.perf_counter(), time.process_time()
                response = await client.get("/api/rollouts", params={**query, "sort": sort})
                times.append(time.perf_counter() - began)
                cpu_times.append(time.process_time() - computed)
                response.raise_for_status()
    return times, cpu_times


def _floor(path: Path) -> float:
    """CPU seconds to read as many rows with the driver alone."""
    with sqlite3.connect(path) as connection:
        began = time.process_time()
        connection.execute("SELECT * FROM rollouts").fetchall()
        return time.process_time() - began


async def _verified(path: Path, count: int) -> dict[str, object]:
    _say(f"writing the events of {count:,} rollouts")
    store = await open_store(str(path))
    for events in _batches(count):
        await store.append(events)
    _say("verifying")
    began = time.process_time()
    report = await verify(store)
    speed = report.sampled_tokens / (time.process_time() - began) / 1e6
    await store.close()
    if not report.ok:
        raise SystemExit(f"the benchmark's own run does not hold: {report.findings[:3]}")
    return {
        "name": "verify_mtok_per_cpu_s",
        "value": round(speed, 1),
        "unit": "Mtok/s",
        "goal": ">= 20",
        "ok": speed >= 20,
    }


def _batches(count: int) -> Iterator[list[Event]]:
    run = SampleRun(RunId("verified"))
    yield [run.started()]
    turns = [sample_turn(at, parent=at - 1 if at else None, delta=256, output=1024) for at in range(4)]
    for number in range(count // 8):
        starts = [run.start(number, member) for member in range(8)]
        events: list[Event] = [run.submitted(number, k=8), *starts]
        for at, turn in enumerate(turns):
            events += [event for start in starts for event in (run.turn(start, turn), run.step(start, at))]
        yield [*events, *map(run.end, starts), run.closed(number, *range(8)), run.acked(number)]


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
