"""Tallies: counters and times that cost a fraction of a microsecond to add to, and take Prometheus' form when asked.

They are added to on the loop alone, so that no lock is taken.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 3_000.0)  # seconds: of the buckets
BUCKETS = (*map(str, BOUNDS), "+Inf")


class Counts(Collector):
    """A counter, by its labels."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        self._name, self._help, self._labels = name, help, labels
        self._counts: dict[tuple[str, ...], float] = {}

    def add(self, *values: str, by: float = 1.0) -> None:
        self._counts[values] = self._counts.get(values, 0.0) + by

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._help, labels=self._labels)
        for values, count in self._counts.copy().items():
            family.add_metric(values, count)
        yield family


class Times(Collector):
    """A histogram of seconds, by its labels."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        self._name, self._help, self._labels = name, help, labels
        self._times: dict[tuple[str, ...], list[float]] = {}  # how many in each bucket, and last the seconds of all

    def add(self, seconds: float, *values: str) -> None:
        times = self._times.get(values)
        if times is None:
            times = self._times[values] = [0.0] * (len(BUCKETS) + 1)
        times[bisect_left(BOUNDS, seconds)] += 1.0
        times[-1] += seconds

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for values, times in self._times.copy().items():
            *buckets, total = times
            family.add_metric(values, list(zip(BUCKETS, accumulate(buckets), strict=True)), total)
        yield family
