"""audit finds what it says it finds, in a run made to show it, and nothing in one that is as it should be."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from envhub.contracts.events import Event
from envhub.contracts.ids import RunId
from envhub.contracts.score import Score
from envhub.contracts.token_file import SamplingMask
from envhub.contracts.usage import Usage
from envhub.errors import UnknownName, UsageError
from envhub.monitor.audit import audit
from envhub.monitor.audit_findings import AuditFinding, Severity
from envhub.monitor.recompute import recompute
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.traces import SampleRun, sample_turn

pytestmark = pytest.mark.anyio
RUN = RunId("r")
GROUPS = 75  # of two; enough for every share to say something


class Told:
    """One rollout of the run, to be changed by a test."""

    def __init__(self, group: int, member: int) -> None:
        self.version = group * 6 // GROUPS
        self.group, self.member = group, member
        self.score: Score | None = Score(float(member), {"correct": float(member), "style": float(member)})
        self.response = f"answer {group} {member}"
        self.tokens = 8
        self.tool_calls = 1
        self.ending = "end"


async def audited(change: Callable[[Told], None]) -> dict[str, AuditFinding]:
    """The findings by kind, of a run of pairs that ended 0 and 1, each rollout changed."""
    run, store = SampleRun(RUN), MemoryTraceStore()
    events: list[Event] = [run.started()]
    for group in range(GROUPS):
        events.append(run.submitted(group))
        for member in range(2):
            events += _rollout(run, group, member, change)
    await store.append(events)
    report = await audit(store, RUN)
    assert report.rollouts == report.sampled == 2 * GROUPS
    return {finding.kind: finding for finding in report.findings if finding.kind != "conservation"}


def _rollout(run: SampleRun, group: int, member: int, change: Callable[[Told], None]) -> list[Event]:
    told = Told(group, member)
    change(told)
    start = run.start(group, member)
    events: list[Event] = [start, run.turn(start, sample_turn(0, output=told.tokens, version=told.version))]
    if told.ending == "fail":
        return [*events, run.fail(start)]
    end = run.end(start, truncated_by="turns" if told.ending == "truncate" else "")
    usage = Usage(turns=1, tool_calls=told.tool_calls)
    return [*events, replace(end, score=told.score, response=told.response, usage=usage)]


async def test_a_run_that_is_as_it_should_be_has_no_finding():
    assert await audited(lambda told: None) == {}


async def test_failures_and_limits_are_told_with_their_share_and_the_list_of_them():
    def change(told: Told) -> None:
        told.ending = "fail" if told.group % 10 == 0 else "truncate" if told.group % 3 == 0 else "end"

    found = await audited(change)
    assert found["failed"].value == pytest.approx(16 / 150)
    assert found["failed"].page == "/rollouts?run=r&status=failed"
    assert found["truncated"].value is not None
    assert found["truncated"].severity is Severity.WARNING


async def test_groups_without_a_difference_are_told():
    def change(told: Told) -> None:
        told.score = Score(1.0) if told.group % 3 else told.score

    assert (await audited(change))["even groups"].value == pytest.approx(2 / 3)


async def test_the_same_answer_to_many_tasks_that_is_paid_is_serious():
    def change(told: Told) -> None:
        told.response = "42" if told.member else told.response

    found = (await audited(change))["identical answers"]
    assert found.severity is Severity.SERIOUS
    assert "75 rollouts of 75 tasks of demo/sums-v0 gave the very same answer, '42', worth 1.00" in found.message
    assert found.page.startswith("/rollouts/r-")


async def test_tools_that_nobody_calls_are_told():
    def change(told: Told) -> None:
        told.tool_calls = 0

    assert "offers add, and none of 150 rollouts called any" in (await audited(change))["tools never used"].message


async def test_judges_that_disagree_are_told():
    def change(told: Told) -> None:
        told.score = Score(float(told.member), {"correct": float(told.member), "style": float(1 - told.member)})

    assert (await audited(change))["judge disagreement"].value == 0.0


async def test_reward_that_rises_with_length_is_told():
    def change(told: Told) -> None:
        late = told.version > 3
        told.score, told.tokens = Score(float(told.member or late)), 32 if late else 8

    found = await audited(change)
    assert found["reward and length"].value == pytest.approx(4.0)


async def test_reward_that_rises_while_a_held_out_judge_falls_is_serious():
    def change(told: Told) -> None:
        late = told.version > 3
        told.score = Score(
            float(told.member or late), {"correct": float(told.member or late), "held_out": float(not late)}
        )

    assert (await audited(change))["reward against a judge"].severity is Severity.SERIOUS


async def test_old_tokens_are_told():
    def change(told: Told) -> None:
        told.version = 9 if told.group % 2 else 0

    assert (await audited(change))["staleness"].value is not None


async def test_an_unknown_run_is_refused_by_name():
    with pytest.raises(UnknownName, match="no run 'x'"):
        await audit(MemoryTraceStore(), RunId("x"))


async def test_log_probabilities_are_compared_with_those_computed_again():
    run, store = SampleRun(RUN), MemoryTraceStore()
    events: list[Event] = [run.started(), run.submitted(0)]
    for member in range(2):
        start = run.start(0, member)
        events += [start, run.turn(start, sample_turn(0)), run.turn(start, sample_turn(1, parent=0)), run.end(start)]
    await store.append(events)

    def again(ids: np.ndarray, temperatures: np.ndarray, mask: SamplingMask | None) -> np.ndarray:
        assert mask is None
        assert temperatures.tolist() == ([0.0] * 4 + [1.0] * 8) * 2
        recorded = np.zeros(len(ids))
        recorded[4:12] = recorded[16:24] = np.linspace(-1.0, 0.0, 8, dtype=np.float32)
        recorded[11] -= 0.5
        return recorded

    found = await recompute(store, RUN, again, version=0, sample=8, longest=100)
    assert (found.rollouts, found.tokens, found.max_error) == (2, 32, 0.5)
    assert found.mean_error == pytest.approx(1.0 / 32)
    assert found.metrics.k1 == pytest.approx(1.0 / 32)
    with pytest.raises(UsageError, match="version 7 alone sampled"):
        await recompute(store, RUN, again, version=7, sample=8, longest=100)
