"""A run over the load, with its CPU: of the manager, of the workers, and of what lies between."""

import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.scale_parts.steps import FACTORY, TURNS, group, platform
from envhub.contracts.events import Event, RolloutEnded, RunStarted
from envhub.contracts.ids import TRAINED, RunId
from envhub.contracts.store import TraceStore
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.manager import Origin, RolloutManager, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.process_workers import ProcessWorkers, SharedPauses, open_process_workers
from envhub.rollouts.ray_places import RayPlaces
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import LocalWorker
from envhub.store.sql_store import open_store

NULL = RunId("null")


@dataclass(frozen=True, slots=True)
class Where:
    """So many workers on that Ray cluster; with no address processes of this machine; none: this one."""

    workers: int = 0
    ray: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """A run that is open."""

    store: TraceStore
    recorder: Recorder
    manager: RolloutManager
    workers: LocalWorker | ProcessWorkers
    ended: list[Event]  # ends of rollouts

    def processes(self) -> list[psutil.Process]:
        """Manager, workers, and their actors."""
        pids = self.workers.pids if isinstance(self.workers, ProcessWorkers) else []
        workers = [psutil.Process(pid) for pid in pids]
        actors = [parent for worker in workers if (parent := worker.parent()) and parent.pid != psutil.Process().pid]
        return [psutil.Process(), *workers, *actors]

    async def play(self, rollouts: int, turns: int = TURNS) -> None:
        """All of them, as fast as it goes."""
        request = group(turns)
        groups = [await self.manager.start(request) for _ in range(rollouts // request.k)]
        for one in groups:
            await one.handed_on.wait()


@asynccontextmanager
async def opened(where: Where, latency_s: float, limit: int) -> AsyncIterator[Bench]:
    settings = f"{latency_s} {limit}".encode()
    ended: list[Event] = []
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        store = await open_store(str(Path(folder) / "null.db"))
        stack.push_async_callback(store.close)
        await store.append([RunStarted(NULL, time.time(), 0, {})])
        recorder = await stack.enter_async_context(open_recorder(store))
        recorder.listen(lambda event: ended.append(event) if isinstance(event, RolloutEnded) else None)
        stack.enter_context(rare_collections())
        workers = await _workers(stack, where, settings, recorder)
        manager = await stack.enter_async_context(
            open_manager(Origin(NULL, 0), workers, recorder, OwnConsumer(recorder), Versions(), max_groups=100_000)
        )
        yield Bench(store, recorder, manager, workers, ended)


async def _workers(
    stack: AsyncExitStack, where: Where, settings: bytes, recorder: Recorder
) -> LocalWorker | ProcessWorkers:
    if not where.workers:
        return LocalWorker(await stack.enter_async_context(platform(settings, recorder)))
    crew = Crew(Bounds(where.workers, where.workers), FACTORY, settings, [TRAINED])
    if not where.ray:
        return await stack.enter_async_context(open_process_workers(crew, recorder, SharedPauses()))
    from envhub.rollouts.ray_workers import open_ray_workers

    places = RayPlaces(where.ray)
    return await stack.enter_async_context(open_ray_workers(places, crew, recorder, SharedPauses()))


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)
