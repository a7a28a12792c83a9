"""Metrics and activity follow a run's events."""

from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from envhub.contracts.events import RolloutPaused, StepRecorded
from envhub.contracts.ids import RunId
from envhub.contracts.messages import Message, ToolCall
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import MOST_TOOLS, Metrics
from envhub.monitor.vitals import HeldLoop, LagFigures, SandboxFigures, SlotFigures, Vitals
from envhub.rollouts.deliveries import QueueStanding
from envhub.testing.traces import SampleRun, sample_events, sample_turn

RUN = RunId("r")
VITALS = Vitals(
    loop_lag=LagFigures(0.001, 0.02, 0.3, HeldLoop(0.3, "tool 'x'", "x.py:1")),
    backlog=7,
    slots=SlotFigures(3, 2, 64),
    sandboxes=SandboxFigures(2, 1, 0, 9, 1, 0, 0, 1.5),
    engines=(),
    feed=QueueStanding(4, 1, {"trainer": 2}),
)


def metrics(*events: object) -> dict[str, float]:
    """Samples as `name{label=value,...}`."""
    activity = Activity()
    found = Metrics(lambda: VITALS, activity)
    for event in events:
        found.take(event)
        activity.take(event)
    samples = {}
    for family in text_string_to_metric_families(found.text().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "le")
            samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return samples


def test_counters_count_what_happened():
    found = metrics(*sample_events())
    environment = "environment=demo/sums-v0"
    assert found[f"envhub_rollouts_started_total{{{environment}}}"] == 12
    assert found[f"envhub_rollouts_ended_total{{{environment},status=completed}}"] == 6
    assert found[f"envhub_rollouts_ended_total{{{environment},status=failed}}"] == 4
    assert found[f"envhub_failures_total{{boundary=engine,{environment}}}"] == 4
    assert found[f"envhub_rollouts_scored_total{{{environment}}}"] == 7
    assert found["envhub_tokens_total{kind=sampled,policy=policy}"] == 80
    assert found["envhub_groups_total{event=submitted}"] == 5
    assert found["envhub_groups_total{event=acked}"] == 2
    assert found["envhub_policy_version{policy=policy}"] == 1


def test_gauges_are_those_of_the_moment():
    run = SampleRun(RUN)
    found = metrics(run.start(0, 0))
    assert found["envhub_rollouts_waiting{for=start}"] == 1
    assert found["envhub_loop_lag_seconds{quantile=1}"] == 0.3
    assert found["envhub_store_backlog_events"] == 7
    assert found["envhub_slots{state=held}"] == 3
    assert found["envhub_sandbox_leases{result=expired}"] == 1
    assert found["envhub_feed_waiting{consumer=trainer}"] == 2


def test_a_model_that_makes_up_tools_makes_no_endless_metrics():
    run = SampleRun(RUN)
    start = run.start(0, 0)
    calls = tuple(ToolCall(str(n), f'tool "{n}"\n') for n in range(MOST_TOOLS + 50))
    step: StepRecorded = run.step(start)
    step = replace(step, step=replace(step.step, action=Message.assistant("", calls)))
    found = metrics(start, step)
    assert found["envhub_tool_calls_total{environment=demo/sums-v0,tool=other}"] == 50


def test_what_a_rollout_waits_for_follows_its_events():
    run, activity = SampleRun(RUN), Activity()
    start = run.start(0, 0)
    child = run.child(start)
    told = []
    for event in (
        start,
        run.turn(start, sample_turn(0)),
        replace(run.step(start), step=replace(run.step(start).step, terminated=False)),
        child,
        run.end(child),
        RolloutPaused(RUN, 1.0, start.rollout_id),
        run.step(start),
    ):
        activity.take(event)
        told.append(activity.doing[start.rollout_id].waits_for.value)
    assert told == ["start", "tool", "engine", "children", "engine", "paused", "paused"]
    activity.take(run.end(start))
    assert not activity.doing


def test_rates_are_kept_by_the_second():
    now = 100.0
    run, activity = SampleRun(RUN), Activity(clock=lambda: now)
    start = run.start(0, 0)
    activity.take(start)
    activity.take(run.turn(start, sample_turn(0)))
    now = 103.5
    activity.take(run.end(start))
    assert [(second.at, second.rollouts, second.tokens) for second in activity.rates(10)] == [(100, 0, 8), (103, 1, 0)]
    assert [second.at for second in activity.rates(1)] == [103]


def test_an_end_whose_start_was_not_seen_is_counted_without_an_environment():
    run = SampleRun(RUN)
    assert metrics(run.end(run.start(0, 0)))["envhub_rollouts_ended_total{environment=,status=completed}"] == 1
