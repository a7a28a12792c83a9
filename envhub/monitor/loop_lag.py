"""How late the event loop is, and whose code held it.

A task on the loop notes how late it wakes; a thread looks at the loop's stack whenever that task is overdue. While the
loop is on time it costs some 20 wake-ups a second, and rollouts nothing at all.

Invariants: code is named only for one call that the thread found on the stack twice, or that held all threads (an
extension that keeps the GIL) and was computing: many calls that are each quick hold the loop too, and none is to blame.
"""

import logging
import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import anyio

from envhub.errors import Fault
from envhub.monitor.culprit import Culprit, culprit

BEAT_S = 0.05
LATE_S = 0.1  # that is looked into
LOG_EVERY_S = 5.0  # at most, of each culprit
STANDS_STILL_S = 10.0  # after which the thread says so itself: the loop may never come back
WINDOW_S = 60.0
STEPS = 20  # of the histogram, for each factor of ten
SHORTEST_S = 1e-5  # that it tells apart

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stall:
    """Once that somebody's code held the loop."""

    seconds: float
    culprit: Culprit

    def __str__(self) -> str:
        return f"{_duration(self.seconds)} in {self.culprit}"


@dataclass(frozen=True, slots=True)
class LoopLag:
    """How late the loop was, seconds."""

    p50_s: float = 0.0
    p99_s: float = 0.0
    max_s: float = 0.0
    worst: Stall | None = None  # None: nobody is to blame

    def __str__(self) -> str:
        figures = f"p50 {_duration(self.p50_s)}, p99 {_duration(self.p99_s)}, max {_duration(self.max_s)}"
        return f"{figures}; worst {self.worst}" if self.worst else figures

    def as_json(self) -> dict[str, object]:
        worst = self.worst
        blamed = worst and {"seconds": worst.seconds, "in": str(worst.culprit), "where": worst.culprit.where}
        return {"p50_s": self.p50_s, "p99_s": self.p99_s, "max_s": self.max_s, "worst": blamed}


class LoopWatch:
    """Open it with `watch_loop`."""

    def __init__(self, cpu_s: Callable[[], float]) -> None:
        self._cpu_s = cpu_s  # of the loop's thread
        self._loop_thread = threading.get_ident()
        self._due = time.monotonic() + BEAT_S
        self._lags: deque[float] = deque(maxlen=round(WINDOW_S / BEAT_S))
        self._steps: Counter[int] = Counter()  # all of them, on a logarithmic scale
        self._max_s = 0.0
        self._worst: Stall | None = None
        self._logged_at: dict[str, float] = {}
        self._lock = threading.Lock()
        self._found: dict[int, _Suspect] = {}  # while the loop is late, by call

    @property
    def recent(self) -> LoopLag:
        """Of the last minute."""
        lags = sorted(self._lags)
        return LoopLag(_quantile(lags, 0.5), _quantile(lags, 0.99), max(lags, default=0.0), self._worst)

    @property
    def total(self) -> LoopLag:
        """Since it was opened; quantiles to a tenth."""
        return LoopLag(self._step_at(0.5), self._step_at(0.99), self._max_s, self._worst)

    async def beat(self) -> None:
        """Notes how late the loop is, until cancelled."""
        while True:
            await anyio.sleep(BEAT_S)
            late_s = max(0.0, time.monotonic() - self._due)
            self._due = time.monotonic() + BEAT_S
            self._note(late_s)

    def look(self, stop: threading.Event) -> None:
        """Looks for culprits from another thread, until `stop`."""
        said_s = STANDS_STILL_S
        while True:
            began, computed = time.monotonic(), self._cpu_s()
            if stop.wait(BEAT_S):
                return
            late_s = time.monotonic() - self._due
            if late_s < LATE_S:
                said_s = STANDS_STILL_S
                continue
            held_s = time.monotonic() - began - BEAT_S  # when no thread but one could run
            computing = held_s > LATE_S and self._cpu_s() - computed > held_s / 2
            suspect = self._suspect(proven=computing)
            if late_s > said_s:
                said_s *= 2
                where = f"{suspect}, {suspect.where}" if suspect else "the platform's own code"
                logger.warning("the event loop stands still for %s, in %s", _duration(late_s), where)

    def _suspect(self, *, proven: bool) -> Culprit | None:
        frame = sys._current_frames().get(self._loop_thread)
        found = culprit(frame) if frame else None
        if found is not None:
            with self._lock:
                # What is found keeps its frame, so no other call can have the same id before the next beat.
                suspect = self._found.setdefault(id(found.call), _Suspect(found))
                suspect.looks += 1 + proven
        return found

    def _note(self, late_s: float) -> None:
        self._lags.append(late_s)
        self._steps[_step(late_s)] += 1
        self._max_s = max(self._max_s, late_s)
        if not self._found:
            return
        with self._lock:
            found, self._found = self._found, {}
        looks = sum(suspect.looks for suspect in found.values())
        for suspect in found.values():
            if suspect.looks > 1:
                self._blame(Stall(late_s * suspect.looks / looks, suspect.culprit))

    def _step_at(self, share: float) -> float:
        left = share * self._steps.total()
        for step in sorted(self._steps):
            left -= self._steps[step]
            if left < 0:
                return min(SHORTEST_S * 10 ** (step / STEPS), self._max_s)
        return self._max_s

    def _blame(self, stall: Stall) -> None:
        if self._worst is None or stall.seconds > self._worst.seconds:
            self._worst = replace(stall, culprit=replace(stall.culprit, ctx=None, call=None))  # keeps no rollout
        by, now = str(stall.culprit), time.monotonic()
        if stall.culprit.ctx is not None and now - self._logged_at.get(by, -LOG_EVERY_S) >= LOG_EVERY_S:
            self._logged_at[by] = now
            with suppress(Fault):  # its rollout has ended
                stall.culprit.ctx.log("held the event loop", seconds=stall.seconds, by=by, where=stall.culprit.where)


@dataclass(slots=True)
class _Suspect:
    culprit: Culprit
    looks: int = 0


@asynccontextmanager
async def watch_loop() -> AsyncIterator[LoopWatch]:
    """A watch over the loop that runs."""
    watch, stop = LoopWatch(cpu_clock()), threading.Event()
    thread = threading.Thread(target=watch.look, args=(stop,), name="envhub-loop-watch", daemon=True)
    thread.start()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.beat)
            yield watch
            tasks.cancel_scope.cancel()
    finally:
        stop.set()


def cpu_clock() -> Callable[[], float]:
    """CPU seconds of this thread, from any other; of the whole process where the system can't tell."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.process_time
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


def _step(seconds: float) -> int:
    return round(STEPS * math.log10(max(seconds, SHORTEST_S) / SHORTEST_S))


def _quantile(values: Sequence[float], share: float) -> float:
    """Of sorted values; 0 where there are none."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"
