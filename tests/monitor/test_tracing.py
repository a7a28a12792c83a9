"""Rollouts become spans by the conventions for generative AI."""

from dataclasses import replace

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from envhub.contracts.ids import RunId
from envhub.contracts.messages import Message, ToolCall
from envhub.monitor.tracing import RolloutTracing
from envhub.testing.traces import SampleRun, sample_turn


def spans(*events: object) -> dict[str, ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing = RolloutTracing(provider.get_tracer("test"))
    for event in events:
        tracing.take(event)
    provider.shutdown()
    return {
        f"{span.name} {span.attributes.get('gen_ai.conversation.id', '')}": span
        for span in exporter.get_finished_spans()
    }


def test_calls_and_tools_lie_below_their_rollout_and_children_below_their_parent():
    run = SampleRun(RunId("r"))
    root = run.start(0, 0)
    child = run.child(root)
    step = run.step(root)
    step = replace(step, step=replace(step.step, action=Message.assistant("", (ToolCall("c1", "search"),))))
    found = spans(root, run.turn(root, sample_turn(0)), step, child, run.end(child), run.end(root))
    top = found["invoke_agent demo/sums-v0 r-0-0-0"]
    below = found["invoke_agent demo/sums-v0 r-0-0-0.0"]
    chat, tool = found["chat policy r-0-0-0"], found["execute_tool search "]
    assert {span.parent.span_id for span in (below, chat, tool)} == {top.context.span_id}
    assert top.attributes["gen_ai.usage.output_tokens"] == 8
    assert top.attributes["envhub.reward"] == 1.0
    assert (chat.attributes["gen_ai.operation.name"], chat.attributes["gen_ai.response.finish_reasons"]) == (
        "chat",
        ("stop",),
    )
    assert (chat.start_time, chat.end_time) == (1_000_000_000, 3_000_000_000)
    assert tool.attributes["gen_ai.tool.call.id"] == "c1"


def test_a_failure_is_an_error_with_its_boundary():
    run = SampleRun(RunId("r"))
    start = run.start(0, 0)
    (span,) = spans(start, run.fail(start)).values()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "engine"


def test_what_still_runs_is_not_told():
    run = SampleRun(RunId("r"))
    assert spans(run.start(0, 0)) == {}
