"""Tracing: rollouts as OpenTelemetry spans, by the semantic conventions for generative AI.

A rollout is a span `invoke_agent ENVIRONMENT`, below it `chat POLICY` for each model call and `execute_tool NAME` for
each call of a tool. Spans are made once a rollout has ended, from what it recorded: while it runs it pays nothing but
the memory of what it recorded, and if the tracer's sampler left it out, not even that. A child's span lies below its
parent's.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ (attributes `gen_ai.*`, version 1.37)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from envhub.contracts.events import Event, RolloutEnded, RolloutStarted, StepRecorded, TurnRecorded
from envhub.contracts.ids import RolloutId
from envhub.contracts.outcome import Status as Ending
from envhub.contracts.step import Step
from envhub.contracts.turn import Finish, Turn

Attributes: TypeAlias = Mapping[str, str | int | float | bool | tuple[str, ...]]
FINISH = {Finish.STOP: "stop", Finish.LENGTH: "length", Finish.CONTEXT: "length", Finish.ABORT: "cancelled"}
PROVIDER = "envhub"


@dataclass(slots=True)
class _Open:
    """A rollout that runs."""

    start: RolloutStarted
    span: Span
    acts: list[Turn | Step] = field(default_factory=list)
    context: dict[int, int] = field(default_factory=dict)  # tokens of prompt and output, by turn


class RolloutTracing:
    """Give `take` every event, on the loop. Whoever made the tracer exports its spans, in a thread of its own."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._open: dict[RolloutId, _Open] = {}

    def take(self, event: Event) -> None:
        match event:
            case RolloutStarted():
                self._start(event)
            case TurnRecorded():
                self._keep(event.rollout_id, event.turn)
            case StepRecorded():
                self._keep(event.rollout_id, event.step)
            case RolloutEnded() if event.rollout_id in self._open:
                open = self._open.pop(event.rollout_id)
                if open.span.is_recording():
                    self._end(open, event)

    def _keep(self, rollout_id: RolloutId, act: Turn | Step) -> None:
        open = self._open.get(rollout_id)
        if open is not None and open.span.is_recording():
            open.acts.append(act)

    def _start(self, event: RolloutStarted) -> None:
        parent = self._open.get(event.parent) if event.parent else None
        request = event.request
        attributes: Attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.agent.name": request.agent,
            "gen_ai.agent.id": request.environment.id,
            "gen_ai.conversation.id": event.rollout_id,
            "gen_ai.request.model": request.policy_id,
            "envhub.run.id": event.run_id,
            "envhub.group.id": event.group_id,
            "envhub.task.id": request.task.id,
        }
        span = self._tracer.start_span(
            f"invoke_agent {request.environment.id}",
            context=set_span_in_context(parent.span) if parent else None,
            kind=SpanKind.INTERNAL,
            attributes=attributes,
            start_time=_ns(event.at),
        )
        self._open[event.rollout_id] = _Open(event, span)

    def _end(self, open: _Open, event: RolloutEnded) -> None:
        for act in open.acts:
            if isinstance(act, Turn):
                self._chat(open, act)
            else:
                self._tools(open, act)
        usage = event.usage
        open.span.set_attributes(
            {
                "gen_ai.usage.input_tokens": usage.prompt_tokens,
                "gen_ai.usage.output_tokens": usage.sampled_tokens,
                "envhub.status": str(event.status),
            }
        )
        if event.score is not None:
            open.span.set_attribute("envhub.reward", event.score.scalar)
        if event.failure is not None and event.status is Ending.FAILED:
            open.span.set_attribute("error.type", str(event.failure.boundary))
            open.span.set_status(Status(StatusCode.ERROR, event.failure.message))
        open.span.end(_ns(event.at))

    def _chat(self, open: _Open, turn: Turn) -> None:
        prompt = len(turn.delta_ids) + (0 if turn.parent is None else open.context.get(turn.parent, 0))
        open.context[turn.index] = prompt + len(turn.output_ids)
        times = turn.timings
        if times.ended_at <= 0.0:  # nobody took the time
            return
        versions = [span.policy_version for span in turn.spans if span.sampled]
        attributes: Attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.conversation.id": open.start.rollout_id,
            "gen_ai.request.model": turn.policy_id,
            "gen_ai.request.temperature": turn.sampling.temperature,
            "gen_ai.request.max_tokens": turn.sampling.max_tokens,
            "gen_ai.response.finish_reasons": (FINISH[turn.finish],),
            "gen_ai.usage.input_tokens": prompt,
            "gen_ai.usage.output_tokens": len(turn.output_ids),
            "envhub.policy.version": max(versions, default=-1),
            "envhub.turn": turn.index,
        }
        self._span(open, f"chat {turn.policy_id}", SpanKind.CLIENT, attributes, times.started_at, times.ended_at)

    def _tools(self, open: _Open, step: Step) -> None:
        for call in step.action.tool_calls:
            attributes: Attributes = {
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.call.id": call.id,
                "gen_ai.tool.type": "function",
            }
            name = f"execute_tool {call.name}"
            self._span(open, name, SpanKind.INTERNAL, attributes, step.started_at, step.ended_at)

    def _span(
        self, open: _Open, name: str, kind: SpanKind, attributes: Attributes, started_at: float, ended_at: float
    ) -> None:
        context = set_span_in_context(open.span)
        span = self._tracer.start_span(
            name, context=context, kind=kind, attributes=attributes, start_time=_ns(started_at)
        )
        span.end(_ns(max(ended_at, started_at)))


def _ns(seconds: float) -> int:
    """Of the epoch."""
    return int(seconds * 1e9)
