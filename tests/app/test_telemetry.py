"""What arrives at a collector: spans by OTLP, as its own protobuf classes read them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as conventions

from envhub.app.telemetry import traced
from envhub.contracts.ids import RunId
from envhub.monitor.span_limit import BURST_S, SPANS_PER_S
from envhub.rollouts.recorder import open_recorder
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.traces import SampleRun, sample_turn

pytestmark = pytest.mark.anyio
NAMES = {value for name, value in vars(conventions).items() if name.startswith("GEN_AI_")}
OPERATIONS = {value.value for value in conventions.GenAiOperationNameValues}


class Collector(HTTPServer):
    """Takes what is exported."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Taking)
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


class _Taking(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Tests are quiet."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "training")
        monkeypatch.delenv("OTEL_TRACES_SAMPLER", raising=False)
        yield server
        server.shutdown()
        thread.join()


async def record(rollouts: int) -> None:
    """Of two turns each."""
    run = SampleRun(RunId("r"))
    async with open_recorder(MemoryTraceStore()) as recorder:
        with traced(recorder):
            recorder.emit(run.started())
            recorder.emit(run.submitted(0, k=rollouts))
            for member in range(rollouts):
                recorder.emit(start := run.start(0, member))
                recorder.emit(run.turn(start, sample_turn(0, delta=16, output=8)))
                recorder.emit(run.turn(start, sample_turn(1, parent=0, delta=16, output=8)))
                recorder.emit(run.end(start))


def attributes(span: Span) -> dict[str, object]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


async def test_a_rollout_arrives_as_spans_whose_attributes_are_those_of_the_conventions(collector: Collector):
    await record(1)
    (resource,) = {one.value.string_value for one in collector.requests[0].resource_spans[0].resource.attributes
                   if one.key == "service.name"}  # fmt: skip
    assert resource == "training"
    named = {key for span in collector.spans for key in attributes(span) if key.startswith("gen_ai.")}
    assert named <= NAMES
    assert {"gen_ai.request.model", "gen_ai.provider.name", "gen_ai.usage.input_tokens"} <= named
    assert {attributes(span)["gen_ai.operation.name"] for span in collector.spans} <= OPERATIONS


async def test_calls_lie_below_the_rollout_and_say_how_long_their_whole_prompt_was(collector: Collector):
    await record(1)
    (root,) = [span for span in collector.spans if not span.parent_span_id]
    calls = [span for span in collector.spans if span.name == "chat policy"]
    assert {span.parent_span_id for span in calls} == {root.span_id}
    assert [attributes(span)["gen_ai.usage.input_tokens"] for span in calls] == [16, 40]
    assert {attributes(span)["gen_ai.conversation.id"] for span in calls} == {"r-0-0-0"}


async def test_many_at_once_are_limited_to_whole_rollouts_unless_the_environment_says_which(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
):
    many = 2 * int(SPANS_PER_S * BURST_S) // 3
    await record(many)
    roots = [span for span in collector.spans if not span.parent_span_id]
    assert 0 < len(roots) < many
    assert len(collector.spans) == 3 * len(roots)
    collector.requests.clear()
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")
    await record(20)
    assert len(collector.spans) == 60
