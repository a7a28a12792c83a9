"""What a load costs while it runs."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil


@dataclass(frozen=True, slots=True)
class Cost:
    wall_s: float
    cpu_s: float
    kib_per_live: float
    peak_live: int
    lag_p99_ms: float
    failures: int
    prompt_ids: float  # a turn, new
    findings: int = 0  # of verify


class Meter:
    """Loop lag, memory and live episodes, sampled while the load runs."""

    def __init__(self, live: Callable[[], int]) -> None:
        self.lags_s: list[float] = []
        self.peak_live = self.peak_rss = 0
        self._live = live
        self._processes = [process := psutil.Process(), *process.children()]
        self._idle_rss = self._rss()
        self._started, self._used = time.perf_counter(), self._cpu_s()

    async def sample(self) -> None:
        while True:
            due = time.perf_counter() + 0.02
            await asyncio.sleep(0.02)
            self.lags_s.append(time.perf_counter() - due)
            self.peak_live = max(self.peak_live, self._live())
            self.peak_rss = max(self.peak_rss, self._rss())

    @property
    def lag_p99_ms(self) -> float:
        return float(np.percentile(self.lags_s, 99)) * 1000

    def cost(self, failures: int, prompt_ids: float) -> Cost:
        return Cost(
            wall_s=time.perf_counter() - self._started,
            cpu_s=self._cpu_s() - self._used,
            kib_per_live=(self.peak_rss - self._idle_rss) / 1024 / max(self.peak_live, 1),
            peak_live=self.peak_live,
            lag_p99_ms=self.lag_p99_ms,
            failures=failures,
            prompt_ids=prompt_ids,
        )

    def _rss(self) -> int:
        return sum(process.memory_info().rss for process in self._processes)

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)
