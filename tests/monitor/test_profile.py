"""profile accounts for every second, and its trace file is one that trace viewers read."""

import io
import json
from dataclasses import replace
from itertools import pairwise

import pytest

from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.contracts.turn import Timings
from envhub.errors import UnknownName
from envhub.monitor.profile import profile
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.traces import SampleRun, sample_events, sample_turn

pytestmark = pytest.mark.anyio
RUN = RunId("r")


async def slow_one(seconds: float) -> MemoryTraceStore:
    """Thirty rollouts that take 2 s each, one of them so much longer, all in their engine; they waited 5 s."""
    run, store = SampleRun(RUN), MemoryTraceStore()
    events: list[Event] = [run.started(), replace(run.submitted(0, k=30), at=95.0)]
    for member in range(30):
        took = seconds if member == 7 else 2.0
        start = replace(run.start(0, member), at=100.0)
        turn = replace(sample_turn(0), timings=Timings(100.0, 100.5, 100.0 + took))
        events += [start, replace(run.turn(start, turn), at=100.0 + took), replace(run.end(start), at=100.0 + took)]
    await store.append(events)
    return store


async def test_every_second_is_accounted_for_once():
    found = await profile(await slow_one(20.0), RUN)
    engine = next(line for line in found.lines if line.kind == "engine")
    queue = next(line for line in found.lines if line.kind == "queue")
    assert (engine.name, engine.count, engine.seconds) == ("policy", 30, pytest.approx(78.0))
    assert (queue.count, queue.seconds) == (30, pytest.approx(150.0))
    assert sum(line.seconds for line in found.lines) == pytest.approx(found.seconds)
    assert sum(line.share for line in found.lines) == pytest.approx(1.0)
    assert found.parallel == pytest.approx(78.0 / found.wall_s)
    assert found.environments["demo/sums-v0"]["engine"] == pytest.approx(78.0)


async def test_a_straggler_is_named_with_what_it_spent_its_time_on():
    (straggler,) = (await profile(await slow_one(20.0), RUN)).stragglers
    assert (straggler.rollout_id, straggler.seconds, straggler.typical_s) == ("r-0-7-0", 20.0, 2.0)
    assert (straggler.mostly, straggler.mostly_s) == ("engine policy", 20.0)
    assert not (await profile(await slow_one(2.0), RUN)).stragglers


async def test_the_trace_is_json_whose_events_lie_one_after_the_other():
    file = io.StringIO()
    store = MemoryTraceStore()
    await store.append(sample_events())
    await profile(store, RunId("sample"), file)
    events = json.loads(file.getvalue())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["ph"] for event in events} == {"X", "M"}
    assert all(isinstance(event[name], int) for event in spans for name in ("pid", "tid", "ts", "dur"))
    assert all(event["dur"] >= 0 and event["name"] and event["cat"] for event in spans)
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert len(set(names.values())) == 12
    for thread in names:
        own = [event for event in spans if (event["pid"], event["tid"]) == thread]
        assert own
        assert all(abs(a["ts"] + a["dur"] - b["ts"]) <= 1 for a, b in pairwise(own))


async def test_a_run_that_is_going_on_has_a_profile():
    run, store = SampleRun(RUN), MemoryTraceStore()
    await store.append([run.started(), run.submitted(0), run.start(0, 0)])
    assert (await profile(store, RUN)).running == 1


async def test_an_unknown_run_is_refused_by_name():
    with pytest.raises(UnknownName, match="no run 'x'"):
        await profile(MemoryTraceStore(), RunId("x"))
