"""Metrics: a run's numbers for Prometheus. docs/operations.md lists their names.

Counters follow the events as they come, on the loop, at about a microsecond each; gauges are read when somebody asks.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
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
from envhub.monitor.vitals import Vitals
from envhub.store.sealed import SealedStep, SealedTurn, gist_of

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000)  # upper bounds of the buckets of times
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
        self._started = _counter(registry, "rollouts_started", "Rollouts that began.", "environment")
        self._ended = _counter(registry, "rollouts_ended", "Rollouts that ended.", "environment", "status")
        self._failed = _counter(registry, "failures", "By whose fault.", "environment", "boundary")
        self._seconds = _histogram(registry, "rollout_seconds", "From start to end.", "environment")
        self._reward = _gauge(registry, "reward_sum", "Of all valid scores.", "environment")
        self._scored = _counter(registry, "rollouts_scored", "With a valid score.", "environment")
        self._turns = _counter(registry, "turns", "Model calls.", "policy")
        self._tokens = _counter(registry, "tokens", "Prompt (each once) and sampled.", "policy", "kind")
        self._turn_seconds = _histogram(registry, "turn_seconds", "A model call, retries too.", "policy")
        self._first_token = _histogram(registry, "first_token_seconds", "Until its first token.", "policy")
        self._step_seconds = _histogram(registry, "step_seconds", "A step: its tools.", "environment")
        self._tool_calls = _counter(registry, "tool_calls", "Calls of tools.", "environment", "tool")
        self._judge_seconds = _histogram(registry, "judge_seconds", "A score's part.", "environment", "part")
        self._groups = _counter(registry, "groups", "What became of groups.", "event")
        self._version = _gauge(registry, "policy_version", "The newest that was announced.", "policy")
        self._requests = _counter(registry, "gateway_requests", "How requests were answered.", "route", "status")
        self._request_seconds = _histogram(registry, "gateway_seconds", "Until all was sent.", "route")
        registry.register(_Gauges(vitals, activity))

    def text(self) -> bytes:
        """All of them, as CONTENT_TYPE says."""
        return generate_latest(self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """The gateway answered one; status 0: its client hung up before."""
        self._requests(route, str(status)).inc()
        self._request_seconds(route).observe(seconds)

    def take(self, event: Event) -> None:
        match event:
            case TurnRecorded():
                self._take_turn(event)
            case StepRecorded() if not isinstance(event, SealedStep):
                self._take_step(event)
            case RolloutStarted():
                environment = event.request.environment.id
                self._running[event.rollout_id] = environment, event.at
                self._started(environment).inc()
            case RolloutEnded():
                self._take_end(event)
            case VersionAnnounced():
                self._version(event.policy_id).set(event.version)
            case _ if type(event) in GROUP_EVENTS:
                self._groups(GROUP_EVENTS[type(event)]).inc()

    def _take_turn(self, event: TurnRecorded) -> None:
        gist = gist_of(event)
        policy = next((str(span.policy_id) for span in gist.spans), "")
        self._turns(policy).inc()
        self._tokens(policy, "sampled").inc(gist.sampled_tokens)
        self._tokens(policy, "prompt").inc(gist.prompt_tokens)
        if not isinstance(event, SealedTurn):
            times = event.turn.timings
            self._turn_seconds(policy).observe(times.ended_at - times.started_at)
            self._first_token(policy).observe(times.first_token_at - times.started_at)

    def _take_step(self, event: StepRecorded) -> None:
        environment, _ = self._running.get(event.rollout_id, ("", 0.0))
        self._step_seconds(environment).observe(event.step.ended_at - event.step.started_at)
        for call in event.step.action.tool_calls:
            self._tool_calls(environment, self._tool(call)).inc()

    def _tool(self, call: ToolCall) -> str:
        """The tool's name, as far as models did not make up too many."""
        if call.error or (len(self._tools) >= MOST_TOOLS and call.name not in self._tools):
            return "other"
        self._tools.add(call.name)
        return call.name

    def _take_end(self, event: RolloutEnded) -> None:
        environment, began = self._running.pop(event.rollout_id, ("", event.at))
        self._ended(environment, str(event.status)).inc()
        self._seconds(environment).observe(event.at - began)
        if event.failure is not None:
            self._failed(environment, str(event.failure.boundary)).inc()
        if event.score is not None:
            self._scored(environment).inc()
            self._reward(environment).inc(event.score.scalar)
            for part, seconds in event.score.durations.items():
                self._judge_seconds(environment, part).observe(seconds)


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


def _counter(registry: CollectorRegistry, name: str, help: str, *labels: str) -> Callable[..., Counter]:
    return cache(Counter(f"envhub_{name}", help, labels, registry=registry).labels)


def _gauge(registry: CollectorRegistry, name: str, help: str, *labels: str) -> Callable[..., Gauge]:
    return cache(Gauge(f"envhub_{name}", help, labels, registry=registry).labels)


def _histogram(registry: CollectorRegistry, name: str, help: str, *labels: str) -> Callable[..., Histogram]:
    return cache(Histogram(f"envhub_{name}", help, labels, registry=registry, buckets=SECONDS).labels)
