"""SpanLimit: so many spans a second at most, whatever a run does; a tree of rollouts is traced wholly or not at all."""

import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState, get_current_span
from opentelemetry.util.types import Attributes

SPANS_PER_S = 100.0  # below 1 % of a core, with the export
BURST_S = 20.0  # of it that a quiet time saves up: short runs are traced whole


class SpanLimit(Sampler):
    """A root is traced while there are spans left; those below it always are, and what they take too much is paid back
    by roots that come later."""

    def __init__(self, spans_per_s: float = SPANS_PER_S) -> None:
        self._per_s = spans_per_s
        self._left = spans_per_s * BURST_S
        self._at = time.monotonic()

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes | None = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        parent = get_current_span(parent_context).get_span_context()
        sampled = parent.trace_flags.sampled if parent.is_valid else self._refilled() > 0.0
        if not sampled:
            return SamplingResult(Decision.DROP)
        self._left -= 1.0
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return f"SpanLimit{{{self._per_s:g} a second}}"

    def _refilled(self) -> float:
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * self._per_s, self._per_s * BURST_S)
        self._at = now
        return self._left
