"""The overview of a run that ends 1,000 rollouts a second: what a viewer costs its process, and how smooth the page is.

The run is played by a process of its own into SQLite, behind the rollouts of a run before it. Its CPU is read while
nobody looks, while one viewer does, and while several do.
"""

import multiprocessing
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread

import anyio
import httpx
import psutil
import uvicorn

from benchmarks.dashboard_parts.page import browser
from benchmarks.dashboard_parts.rows import fill
from envhub.contracts.events import Event, RolloutStarted
from envhub.contracts.ids import RunId
from envhub.dashboard.api import create_app
from envhub.dashboard.live_run import LiveRun
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import Metrics
from envhub.monitor.vitals import LagFigures, SlotFigures, Vitals
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.traces import SampleRun, sample_turn

GROUPS, MEMBERS = 125, 8  # a second: 1,000 rollouts
TICKS = 5  # batches a second
LASTS = TICKS  # batches that a rollout is there for
VIEWERS = 5
WATCHED_S, QUICK_WATCHED_S = 20.0, 6.0

FRAMES = """async seconds => {
    const end = performance.now() + 1000 * seconds
    let frames = 0
    for (; performance.now() < end; frames++) await new Promise(requestAnimationFrame)
    return frames / seconds
}"""


def measured(folder: Path, rollouts: int, *, quick: bool) -> list[dict[str, object]]:
    """Figures of the overview, with so many rollouts in the store before the run."""
    watched_s = QUICK_WATCHED_S if quick else WATCHED_S
    print("live overview: 1,000 rollouts a second", file=sys.stderr, flush=True)
    with _played(folder / "live.db", rollouts) as run:
        idle = run.cores(watched_s)
        with _viewers(run.url, 1):
            one = run.cores(watched_s)
            with _viewers(run.url, VIEWERS):
                several = run.cores(watched_s)
        frames = _frames_a_second(run.url, watched_s)
        speed = httpx.get(f"{run.url}/api/overview", params={"window_s": 10}).json()["rollouts_per_s"]
    share = 100 * (one - idle)
    further = 100 * (several - one) / VIEWERS
    figures: list[dict[str, object]] = [
        {"name": "overview_rollouts_per_s", "value": round(speed), "unit": "/s"},
        {
            "name": "overview_cpu_percent_of_a_core",
            "value": round(share, 1),
            "unit": "%",
            "floor": round(100 * idle, 1),  # the run itself
            "goal": "<= 5",
            "ok": share <= 5,
        },
        {"name": "overview_cpu_percent_a_further_viewer", "value": round(further, 2), "unit": "%"},
    ]
    if frames is not None:
        ok = frames >= 30
        figures.append({"name": "overview_frames", "value": round(frames, 1), "unit": "/s", "goal": ">= 30", "ok": ok})
    return figures


@dataclass(frozen=True, slots=True)
class _Run:
    """The process that plays the run."""

    url: str
    process: psutil.Process

    def cores(self, seconds: float) -> float:
        """That it keeps busy."""
        before, began = self._cpu_s(), time.perf_counter()
        time.sleep(seconds)
        return (self._cpu_s() - before) / (time.perf_counter() - began)

    def _cpu_s(self) -> float:
        times = self.process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def _played(path: Path, rollouts: int) -> Iterator[_Run]:
    told, tell = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_play, args=(tell, path, rollouts), daemon=True)
    process.start()
    try:
        port: int = told.recv()
        url = f"http://127.0.0.1:{port}"
        httpx.get(f"{url}/api/overview", timeout=120).raise_for_status()  # which waits for the first look
        yield _Run(url, psutil.Process(process.pid))
    finally:
        process.kill()
        process.join()


def _play(tell: Connection, path: Path, rollouts: int) -> None:
    anyio.run(_serve, tell, path, rollouts)


async def _serve(tell: Connection, path: Path, rollouts: int) -> None:
    await (await open_store(str(path))).close()
    fill(path, rollouts)
    store = await open_store(str(path))
    activity = Activity()
    metrics = Metrics(_vitals, activity)
    flow = _Flow(store, activity, metrics)
    live = LiveRun(flow.run.run_id, control=None, acts=None, vitals=_vitals, activity=activity, metrics=metrics)  # type: ignore[arg-type]  # nobody steers it
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.play)
            tell.send(listener.getsockname()[1])
            config = uvicorn.Config(create_app(store, None, live=live), log_level="error")
            await uvicorn.Server(config).serve([listener])


def _vitals() -> Vitals:
    lag = LagFigures(0.0004, 0.004, 0.02, None)
    return Vitals(lag, 0, SlotFigures(1000, 0, 1024), None, (), None)


class _Flow:
    """Groups that begin, and a second later have been sampled, scored and closed."""

    def __init__(self, store: SqlTraceStore, activity: Activity, metrics: Metrics) -> None:
        self.run = SampleRun(RunId("live"))
        self._store = store
        self._listeners = activity.take, metrics.take
        self._groups = 0
        self._going: deque[list[RolloutStarted]] = deque()

    async def play(self) -> None:
        await self._store.append([self.run.started()])
        due = anyio.current_time()
        while True:
            events = [*self._begun(), *(self._ended() if len(self._going) > LASTS else ())]
            for event in events:
                for listen in self._listeners:
                    listen(event)
            await self._store.append(events)
            due += 1 / TICKS
            await anyio.sleep_until(due)

    def _begun(self) -> Iterator[Event]:
        starts: list[RolloutStarted] = []
        for number in range(self._groups, self._groups + GROUPS // TICKS):
            yield self._now().submitted(number, k=MEMBERS)
            starts += [self._now().start(number, member) for member in range(MEMBERS)]
        self._groups += GROUPS // TICKS
        self._going.append(starts)
        yield from starts

    def _ended(self) -> Iterator[Event]:
        turn = sample_turn(0, delta=64, output=128, version=self._groups // 2_000)
        starts = self._going.popleft()
        for start in starts:
            yield self._now().turn(start, turn)
            yield self._now().end(start, reward=float(start.member % 2))
        for at in range(0, len(starts), MEMBERS):
            yield self._now().closed(self._groups - (LASTS + 1) * GROUPS // TICKS + at // MEMBERS, *range(MEMBERS))

    def _now(self) -> SampleRun:
        """The run, whose next event is one of now."""
        self.run.now = time.time() - 1.0
        return self.run


@contextmanager
def _viewers(url: str, count: int) -> Iterator[None]:
    """So many that follow the overview and read all of it."""
    with ExitStack() as stack:
        for _ in range(count):
            client = stack.enter_context(httpx.Client(base_url=url, timeout=None))
            answer = stack.enter_context(client.stream("GET", "/api/overview/live", params={"window_s": 300}))
            Thread(target=_read, args=(answer,), daemon=True).start()
        yield


def _read(answer: httpx.Response) -> None:
    try:
        for _ in answer.iter_raw():
            pass
    except (httpx.StreamError, httpx.TransportError):
        return  # it was closed


def _frames_a_second(url: str, seconds: float) -> float | None:
    """Of the page in Chromium; None: it can't be shown here."""
    with browser() as chromium:
        if chromium is None:
            return None
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"{url}/overview")
        page.get_by_text("Rollouts a second", exact=True).wait_for()
        frames: float = page.evaluate(FRAMES, seconds)
        return frames
