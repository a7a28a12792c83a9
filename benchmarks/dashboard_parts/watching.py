"""What metrics and tracing add to a turn: they are given the events of a run again whose turns cost as little as any.

Tracing has a limit by the clock: its cost is that of turns whose rollouts are left out, and of the spans of the limit.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio

from benchmarks.null_parts.load import ALONE, GOLD, QUESTION, K, Load, null_platform, paced
from envhub.app import LOOP
from envhub.contracts.events import Event, RunStarted
from envhub.contracts.ids import RunId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.task import Task
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import Metrics
from envhub.monitor.vitals import Vitals
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.manager import Origin, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.recorder import open_recorder
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import LocalWorker
from envhub.store.sql_store import open_store

LOAD, QUICK_LOAD = Load(4_000, 0.5, 2.0), Load(1_000, 0.2, 0.5)
QUEUE = 1 << 20  # spans: nothing is dropped here, however fast they come


def measured(quick: bool) -> list[dict[str, object]]:
    """Shares of a turn's CPU; tracing's where OpenTelemetry is installed."""
    print("playing a run, and watching it", file=sys.stderr, flush=True)
    load = QUICK_LOAD if quick else LOAD
    with rare_collections():
        turn_s, events = anyio.run(_played, load, backend_options=LOOP)
        metrics_s, tracing = _metrics_s(events) / load.turns, _tracing(events)
    figures = [_figure("metrics", metrics_s, turn_s)]
    if tracing is not None:
        cost_s = metrics_s + tracing.left_out_s / load.turns + tracing.limit_share * turn_s
        figures.append(_figure("metrics_and_tracing", cost_s, turn_s) | {"span_us": round(1e6 * tracing.span_s, 1)})
    return figures


@dataclass(frozen=True, slots=True)
class _Tracing:
    """CPU seconds."""

    left_out_s: float  # of all events, where no rollout is traced
    span_s: float  # of a span, with all that an export costs but the network
    limit_share: float  # of a core, by the default limit


def _figure(name: str, cost_s: float, turn_s: float) -> dict[str, object]:
    share = 100 * cost_s / turn_s
    return {
        "name": f"{name}_cpu_percent_of_a_turn",
        "value": round(share, 1),
        "unit": "%",
        "cost_us": round(1e6 * cost_s, 1),
        "turn_us": round(1e6 * turn_s),
        "goal": "<= 5",
        "ok": share <= 5,
    }


async def _played(load: Load) -> tuple[float, Sequence[Event]]:
    """CPU seconds of a turn of the null load, which nobody watches, and its events."""
    run_id, events = RunId("null"), list[Event]()
    with tempfile.TemporaryDirectory() as folder:
        store = await open_store(str(Path(folder) / "null.db"))
        await store.append([RunStarted(run_id, time.time(), 0, {})])
        request = GroupRequest(RolloutRequest(EnvironmentRef(ALONE), Task.ask(QUESTION, GOLD)), k=K)
        async with open_recorder(store) as recorder:
            recorder.listen(events.append)
            worker = LocalWorker(null_platform(load, recorder, load.rollouts))
            origin, consumer = Origin(run_id, 0), OwnConsumer(recorder)
            began = time.process_time()
            async with open_manager(
                origin, worker, recorder, consumer, Versions(), max_groups=load.rollouts
            ) as manager:
                await paced(load, partial(manager.start, request))
            turn_s = (time.process_time() - began) / load.turns
        await store.close()
    return turn_s, events


def _metrics_s(events: Sequence[Event]) -> float:
    activity = Activity()
    metrics = Metrics(_no_vitals, activity)
    return _cpu_s(events, activity.take, metrics.take)


def _tracing(events: Sequence[Event]) -> _Tracing | None:
    """None: OpenTelemetry is not installed, which is said on stderr."""
    try:
        from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
        from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

        from envhub.monitor.span_limit import SPANS_PER_S
        from envhub.monitor.tracing import RolloutTracing
    except ImportError as error:
        print(f"'{error.name}' is not installed; tracing is not measured", file=sys.stderr)
        return None

    encoded = 0

    class Encoded(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            nonlocal encoded
            encoded += len(spans)
            encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    def cost_s(sampler: Sampler) -> float:
        provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(BatchSpanProcessor(Encoded(), max_queue_size=QUEUE))
        return _cpu_s(events, RolloutTracing(provider.get_tracer("envhub")).take, after=provider.shutdown)

    left_out_s = cost_s(ALWAYS_OFF)
    span_s = cost_s(ALWAYS_ON) / encoded
    return _Tracing(left_out_s, span_s, span_s * SPANS_PER_S)


def _cpu_s(
    events: Sequence[Event], *listeners: Callable[[Event], None], after: Callable[[], None] = lambda: None
) -> float:
    began = time.process_time()
    for event in events:
        for listen in listeners:
            listen(event)
    after()
    return time.process_time() - began


def _no_vitals() -> Vitals:
    raise RuntimeError("nobody asks for gauges here")
