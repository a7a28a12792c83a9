"""Where the rollouts of the load run: here, or in worker processes."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path

import anyio

from benchmarks.null_parts.load import Load, null_platform
from benchmarks.null_parts.meter import Meter
from envhub.contracts.ids import TRAINED
from envhub.rollouts.platform import Platform
from envhub.rollouts.process_workers import SharedPauses, open_process_workers
from envhub.rollouts.recorder import Recorder, Recording
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.workers import LocalWorker, Workers


@asynccontextmanager
async def open_workers(load: Load, recorder: Recorder, folder: Path) -> AsyncIterator[Workers]:
    """Where the load's rollouts run."""
    if not load.processes:
        yield LocalWorker(null_platform(load, recorder, load.rollouts))
        return
    settings = json.dumps([asdict(load), str(folder)]).encode()
    crew = Crew(Bounds(load.processes, load.processes), f"{__name__}:worker_platform", settings, [TRAINED])
    async with open_process_workers(crew, recorder, SharedPauses()) as workers:
        yield workers


@asynccontextmanager
async def worker_platform(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """The platform of a worker process, which leaves its loop's lag in a file."""
    load, folder = json.loads(settings)
    load = Load(**load)
    meter = Meter(int)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(meter.sample)
        yield null_platform(load, recorder, load.rollouts)
        tasks.cancel_scope.cancel()
    note_lag(Path(folder), os.getpid(), meter)


def note_lag(folder: Path, index: int, meter: Meter) -> None:
    (folder / f"{index}.lag").write_text(str(meter.lag_p99_ms))


def lags(folder: Path) -> list[float]:
    """Of the workers, p99 in milliseconds."""
    return [0.0, *(float(file.read_text()) for file in folder.glob("*.lag"))]
