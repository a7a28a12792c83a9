"""Telemetry: where a run's traces go, as OpenTelemetry's own environment variables say."""

from collections.abc import Iterator
from contextlib import contextmanager

from envhub.errors import UsageError
from envhub.rollouts.recorder import Recorder


@contextmanager
def traced(recorder: Recorder) -> Iterator[None]:
    """Within, every rollout that ends is exported by OTLP over HTTP: OTEL_EXPORTER_OTLP_ENDPOINT says where,
    OTEL_SERVICE_NAME under which name. What is left is sent at the end.

    Raises:
        UsageError: OpenTelemetry is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        from envhub.monitor.tracing import RolloutTracing
    except ImportError as error:
        raise UsageError(
            f"traces need '{error.name}'; `pip install envhub-rl[otel]`, or set tracing to False"
        ) from error
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        recorder.listen(RolloutTracing(provider.get_tracer("envhub")).take)
        yield
    finally:
        provider.shutdown()
