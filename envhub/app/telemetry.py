"""Telemetry: where a run's traces go, as OpenTelemetry's own environment variables say."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from envhub.errors import UsageError
from envhub.rollouts.recorder import Recorder


@contextmanager
def traced(recorder: Recorder) -> Iterator[None]:
    """Within, every rollout that ends is exported by OTLP over HTTP: OTEL_EXPORTER_OTLP_ENDPOINT says where,
    OTEL_SERVICE_NAME under which name. What is left is sent at the end. Where OTEL_TRACES_SAMPLER doesn't say which
    rollouts, as many as a small share of a core can export.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from envhub.monitor.span_limit import SpanLimit
        from envhub.monitor.tracing import RolloutTracing
    except ImportError as error:
        raise UsageError(
            f"traces need '{error.name}'; `pip install envhub-rl[otel]`, or set tracing to False"
        ) from error
    provider = TracerProvider(sampler=None if os.environ.get("OTEL_TRACES_SAMPLER") else SpanLimit())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        recorder.listen(RolloutTracing(provider.get_tracer("envhub")).take)
        yield
    finally:
        provider.shutdown()
