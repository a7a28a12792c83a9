"""The Grafana dashboard asks for metrics that there are, by labels that they have."""

import json
import re
from dataclasses import replace
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from envhub.contracts.messages import Message, ToolCall
from envhub.monitor.activity import Activity
from envhub.monitor.metrics import Metrics
from envhub.testing.traces import SampleRun, sample_events, sample_turn
from tests.monitor.test_metrics import VITALS

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "envhub.json").read_text())
NAME = re.compile(r"envhub_[a-z_]+")
UNSEEN = {"envhub_judge_seconds_bucket", "envhub_engine_servers_down"}  # of no sample event


def names() -> set[str]:
    activity = Activity()
    metrics = Metrics(lambda: VITALS, activity)
    run = SampleRun()
    start = run.start(9, 0)
    step = run.step(start)
    step = replace(step, step=replace(step.step, action=Message.assistant("", (ToolCall("c1", "search"),))))
    for event in [*sample_events(), start, run.turn(start, sample_turn(0)), step]:
        metrics.take(event)
        activity.take(event)
    metrics.request("/v1/chat/completions", 200, 0.5)
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_of_the_dashboard_is_one_of_ours():
    asked = {
        name for panel in DASHBOARD["panels"] for target in panel["targets"] for name in NAME.findall(target["expr"])
    }
    assert asked - names() <= UNSEEN
    assert len(asked) >= 20


def test_the_documented_names_are_those_that_there_are():
    documented = set(re.findall(r"`(envhub_[a-z_]+)", (ROOT / "docs" / "operations.md").read_text()))
    bases = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in names() | UNSEEN}
    told = {re.sub(r"_(total|sum)$", "", name) for name in documented}
    assert bases - told == set()
