"""Tallies take the very form that Prometheus' own counters and histograms take."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.registry import Collector

from envhub.monitor.tallies import BOUNDS, Counts, Times

SECONDS = (0.0, 0.01, 0.02, 5.0, 3_000.0, 9_999.0)


def text(*collectors: Collector) -> list[str]:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_counts_are_told_as_prometheus_tells_them():
    ours, theirs = (
        Counts("turns", "Calls.", "policy", "kind"),
        Counter("turns", "Calls.", ("policy", "kind"), registry=None),
    )
    for policy, number in (("a", 1.0), ("b", 2.5), ("a", 4.0)):
        ours.add(policy, "x", by=number)
        theirs.labels(policy, "x").inc(number)
    assert text(ours) == text(theirs)


@pytest.mark.parametrize("seconds", [SECONDS, SECONDS[:1], SECONDS[-1:]])
def test_times_lie_in_the_buckets_that_prometheus_puts_them_into(seconds: tuple[float, ...]):
    ours = Times("turn_seconds", "A call.", "policy")
    theirs = Histogram("turn_seconds", "A call.", ("policy",), buckets=BOUNDS, registry=None)
    for one in seconds:
        ours.add(one, "p")
        theirs.labels("p").observe(one)
    assert text(ours) == text(theirs)
