"""Metrics: a run's numbers for Prometheus. docs/operations.md lists their names.

Counters follow the events as they come, on the loop, at about a microsecond each; gauges are read when somebody asks.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupCancelled,
    GroupClosed,
    GroupDropped,
    GroupLeased,
    GroupReturned,
    GroupSubmitted,
    RolloutEnded,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
    VersionAnnounced,
)
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import ToolCall
from envhub.monitor.activity import Activity
from envhub.monitor.tallies import Counts, Times
from envhub.monitor.vitals import Vitals
from envhub.store.sealed import SealedStep, SealedTurn, gist_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_TOOLS = 200  # names that are told apart: a model may call what there is not
GROUP_EVENTS = {
    GroupSubmitted: "submitted",
    GroupClosed: "closed",
    GroupLeased: "leased",
    GroupReturned: "returned",
    GroupAcked: "acked",
    GroupDropped: "dropped",
    GroupCancelled: "cancelled",
}


class Metrics:
    """The numbers of one run. Give `take` every event."""

    def __init__(self, vitals: Callable[[], Vitals], activity: Activity) -> None:
        self._registry = registry = CollectorRegistry(auto_describe=False)
        self._running: dict[RolloutId, tuple[str, float]] = {}  # environment, start
        self._tools: set[str] = set()
        self._started = self._counts("rollouts_started", "Rollouts that began.", "environment")
        self._ended = self._counts("rollouts_ended", "Rollouts that ended.", "environment", "status")
        self._failed = self._counts("failures", "By whose fault.", "environment", "boundary")
        self._seconds = self._times("rollout_seconds", "From start to end.", "environment")
        self._reward = _gauge(registry, "reward_sum", "Of all valid scores.", "environment")
        self._scored = self._counts("rollouts_scored", "With a valid score.", "environment")
        self._turns = self._counts("turns", "Model calls.", "policy")
        self._tokens = self._counts("tokens", "Prompt (each once) and sampled.", "policy", "kind")
        self._turn_seconds = self._times("turn_seconds", "A model call, retries too.", "policy")
        self._first_token = self._times("first_token_seconds", "Until its first token.", "policy")
        self._step_seconds = self._times("step_seconds", "A step: its tools.", "environment")
        self._tool_calls = self._counts("tool_calls", "Calls of tools.", "environment", "tool")
        self._judge_seconds = self._times("judge_seconds", "A score's part.", "environment", "part")
        self._groups = self._counts("groups", "What became of groups.", "event")
        self._version = _gauge(registry, "policy_version", "The newest that was announced.", "policy")
        self._requests = self._counts("gateway_requests", "How requests were answered.", "route", "status")
        self._request_seconds = self._times("gateway_seconds", "Until all was sent.", "route")
        registry.register(_Gauges(vitals, activity))

    def _counts(self, name: str, help: str, *labels: str) -> Counts:
        counts = Counts(f"envhub_{name}", help, *labels)
        self._registry.register(counts)
        return counts

    def _times(self, name: str, help: str, *labels: str) -> Times:
        times = Times(f"envhub_{name}", help, *labels)
        self._registry.register(times)
        return times

    def text(self) -> bytes:
        """All of them, as CONTENT_TYPE says."""
        return generate_latest(self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """The gateway answered one; status 0: its client hung up before."""
        self._requests.add(route, str(status))
        self._request_seconds.add(seconds, route)

    def take(self, event: Event) -> None:
        match event:
            case TurnRecorded():
                self._take_turn(event)
            case StepRecorded() if not isinstance(event, SealedStep):
                self._take_step(event)
            case RolloutStarted():
                environment = event.request.environment.id
                self._running[event.rollout_id] = environment, event.at
                self._started.add(environment)
            case RolloutEnded():
                self._take_end(event)
            case VersionAnnounced():
                self._version(event.policy_id).set(event.version)
            case _ if type(event) in GROUP_EVENTS:
                self._groups.add(GROUP_EVENTS[type(event)])

    def _take_turn(self, event: TurnRecorded) -> None:
        gist = gist_of(event)
        policy = str(gist.spans[0].policy_id) if gist.spans else ""
        self._turns.add(policy)
        self._tokens.add(policy, "sampled", by=gist.sampled_tokens)
        self._tokens.add(policy, "prompt", by=gist.prompt_tokens)
        if not isinstance(event, SealedTurn):
            times = event.turn.timings
            self._turn_seconds.add(times.ended_at - times.started_at, policy)
            self._first_token.add(times.first_token_at - times.started_at, policy)

    def _take_step(self, event: StepRecorded) -> None:
        environment, _ = self._running.get(event.rollout_id, ("", 0.0))
        step = event.step
        self._step_seconds.add(step.ended_at - step.started_at, environment)
        for call in step.action.tool_calls:
            self._tool_calls.add(environment, self._tool(call))

    def _tool(self, call: ToolCall) -> str:
        """The tool's name, as far as models did not make up too many."""
        if call.error or (len(self._tools) >= MOST_TOOLS and call.name not in self._tools):
            return "other"
        self._tools.add(call.name)
        return call.name

    def _take_end(self, event: RolloutEnded) -> None:
        environment, began = self._running.pop(event.rollout_id, ("", event.at))
        self._ended.add(environment, str(event.status))
        self._seconds.add(event.at - began, environment)
        if event.failure is not None:
            self._failed.add(environment, str(event.failure.boundary))
        if event.score is not None:
            self._scored.add(environment)
            self._reward(environment).inc(event.score.scalar)
            for part, seconds in event.score.durations.items():
                self._judge_seconds.add(seconds, environment, part)


class _Gauges(Collector):
    """What is read when somebody asks."""

    def __init__(self, vitals: Callable[[], Vitals], activity: Activity) -> None:
        self._vitals = vitals
        self._activity = activity

    def collect(self) -> Iterator[Metric]:
        vitals = self._vitals()
        yield _family("rollouts_waiting", "Rollouts that run, by what they wait for.", "for", self._activity.waiting())
        lag = vitals.loop_lag
        by_quantile = {"0.5": lag.p50_s, "0.99": lag.p99_s, "1": lag.max_s}
        yield _family("loop_lag_seconds", "How late the event loop was in the last minute.", "quantile", by_quantile)
        yield _family("store_backlog_events", "Events that are not durable yet.", "", {"": vitals.backlog})
        if vitals.slots:
            slots = {"held": vitals.slots.held, "waiting": vitals.slots.waiting, "limit": vitals.slots.limit}
            yield _family("slots", "Places of rollouts that act.", "state", slots)
        if vitals.sandboxes:
            found = vitals.sandboxes
            now = {"leased": found.leased, "warm": found.warm, "waiting": found.waiting}
            yield _family("sandboxes", "Sandboxes, and requests for one.", "state", now)
            names = ("granted", "expired", "refused", "failed")
            since = {name: getattr(found, name) for name in names}
            yield _family("sandbox_leases", "Since the process began.", "result", since)
            yield _family("sandbox_wait_seconds", "Of all granted requests together.", "", {"": found.wait_s})
        yield from _engine_families(vitals)
        if vitals.feed:
            groups = {"ready": vitals.feed.ready, "leased": vitals.feed.leased}
            yield _family("feed_groups", "Closed groups that no consumer acked yet.", "state", groups)
            yield _family("feed_waiting", "Deliveries that consumers wait for.", "consumer", vitals.feed.waiting)


def _engine_families(vitals: Vitals) -> Iterator[Metric]:
    up = {engine.policy_id: engine.servers - len(engine.outages) for engine in vitals.engines}
    yield _family("engine_servers_up", "Servers that generate; 0 for an engine in this process.", "policy", up)
    down = {engine.policy_id: len(engine.outages) for engine in vitals.engines}
    yield _family("engine_servers_down", "Servers that are out of rotation.", "policy", down)


def _family(name: str, help: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"envhub_{name}", help, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def _gauge(registry: CollectorRegistry, name: str, help: str, *labels: str) -> Callable[..., Gauge]:
    return cache(Gauge(f"envhub_{name}", help, labels, registry=registry).labels)
