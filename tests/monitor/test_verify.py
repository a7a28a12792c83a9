"""verify finds nothing in a correct run, and each broken invariant, and only it, in a run that was tampered with."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupClosed,
    GroupLeased,
    GroupReturned,
    RolloutEnded,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import LeaseId, PolicyId, RunId
from envhub.contracts.messages import Role
from envhub.contracts.outcome import Status
from envhub.contracts.score import Score
from envhub.contracts.store import StoredEvent
from envhub.contracts.token_file import SamplingMask, TokenFile
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import NO_VERSION, Sampling, Turn
from envhub.errors import UnknownName
from envhub.monitor.run_check import Finding
from envhub.monitor.token_checks import row_breaches
from envhub.monitor.verify import VerifyReport, verify, verify_from
from envhub.store.memory_store import MemoryTraceStore
from envhub.store.sealed import stored
from envhub.store.sql_store import open_store
from envhub.testing.traces import SampleRun, sample_events, sample_turn
from envhub.tokens.rows import trajectory

pytestmark = pytest.mark.anyio

Edit = Callable[[Sequence[Event]], Sequence[Event]]


class TamperedStore(MemoryTraceStore):
    """Holds a run, and reads out another one that it would have refused."""

    def __init__(self, edit: Edit) -> None:
        super().__init__()
        self._edit = edit

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        events = self._edit([event async for event in self.events(run_id)])
        read = [StoredEvent(place, *stored(event)) for place, event in enumerate(events, start=1)]
        return read[after : after + limit]


class GrowingStore(MemoryTraceStore):
    """Appends one more event each time its log was read to its end."""

    def __init__(self, more: list[Event]) -> None:
        super().__init__()
        self._more = more

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        read = await super().log(run_id, after, limit)
        if not read and self._more:
            await self.append([self._more.pop(0)])
        return read


async def verified(events: Sequence[Event]) -> VerifyReport:
    store = MemoryTraceStore()
    await store.append(events)
    return await verify(store)


def changed(kind: type[Event], place: int, **changes: object) -> list[Event]:
    """The sample run with its `place`-th event of a kind changed."""
    events = sample_events()
    at = places(events, kind)[place]
    events[at] = replace(events[at], **changes)
    return events


def places(events: Sequence[Event], kind: type[Event]) -> list[int]:
    return [at for at, event in enumerate(events) if isinstance(event, kind)]


def twice(kind: type[Event], place: int) -> Edit:
    """Repeats the `place`-th event of a kind."""

    def edit(events: Sequence[Event]) -> Sequence[Event]:
        found = places(events, kind)
        at = found[place] if len(found) > place else -1
        return [copy for i, event in enumerate(events) for copy in [event] * (1 + (i == at))]

    return edit


def found(report: VerifyReport) -> list[tuple[int, str]]:
    return [(finding.invariant, finding.where) for finding in report.findings]


async def test_correct_run_has_no_finding() -> None:
    assert await verified(sample_events()) == VerifyReport(
        runs=1, rollouts=12, rows=8, spans=24, turns=10, sampled_tokens=80, events=56, findings=()
    )


async def test_every_run_is_checked_unless_one_is_named() -> None:
    store = MemoryTraceStore()
    await store.append(sample_events("one"))
    await store.append(sample_events("two"))
    assert (await verify(store)).runs == 2
    one = await verify(store, RunId("one"))
    assert (one.runs, one.rollouts, one.ok) == (1, 12, True)
    with pytest.raises(UnknownName, match="no run 'onne'; did you mean one"):
        await verify(store, RunId("onne"))


async def test_run_that_is_unfinished_has_no_finding() -> None:
    events = sample_events()
    for length in range(1, len(events)):
        assert (await verified(events[:length])).findings == ()


def other_turn(index: int, **changes: object) -> Turn:
    return replace(sample_turn(index, parent=0 if index else None, version=1 if index else 0), **changes)


SPAN = sample_turn(1).spans[0]

BROKEN_TURNS = {
    "parent_that_is_missing": (1, "turn 1 continues turn 7, which is not recorded", {"parent": 7}),
    "parent_that_is_itself": (1, "which does not come before it", {"parent": 1}),
    "parent_that_is_later": (1, "which does not come before it", {"parent": 2}),
    "parent_of_another_policy": (1, "'judge' continues turn 0 of 'policy'",
                                 {"policy_id": PolicyId("judge"), "spans": (replace(SPAN, trainable=False),)}),
    "logprob_too_few": (2, "8 output ids and 7 logprobs", {"logprobs": np.zeros(7, np.float32)}),
    "logprob_nan": (2, "logprob nan at output token 3", {"logprobs": np.float32([0, 0, 0, np.nan, 0, 0, 0, 0])}),
    "logprob_infinite": (2, "logprob -inf", {"logprobs": np.full(8, -np.inf, np.float32)}),
    "logprob_positive": (2, "logprob 0.5 at output token 7", {"logprobs": np.float32([0, 0, 0, 0, 0, 0, 0, 0.5])}),
    "spans_missing": (2, "don't tile", {"spans": ()}),
    "spans_too_short": (2, "don't tile", {"spans": (replace(SPAN, end=7),)}),
    "spans_too_long": (2, "don't tile", {"spans": (replace(SPAN, end=9),)}),
    "spans_with_a_gap": (2, "don't tile", {"spans": (replace(SPAN, end=3), replace(SPAN, start=4))}),
    "spans_that_overlap": (2, "don't tile", {"spans": (replace(SPAN, end=4), replace(SPAN, start=3))}),
    "span_without_version": (2, "no version", {"spans": (replace(SPAN, policy_version=NO_VERSION),)}),
    "span_trained_unsampled": (2, "trainable but not sampled", {"spans": (replace(SPAN, sampled=False),)}),
    "span_trained_of_another_policy": (2, "by policy 'judge'; 'policy' trains",
                                       {"spans": (replace(SPAN, policy_id=PolicyId("judge")),)}),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_TURNS)
async def test_broken_turn_is_found(name: str) -> None:
    invariant, why, changes = BROKEN_TURNS[name]
    (finding,) = (await verified(changed(TurnRecorded, 2, turn=other_turn(1, **changes)))).findings
    assert (finding.invariant, finding.where) == (invariant, "sample-0-0-0")
    assert why in finding.message


CUT = Sampling(top_k=3)
OUTPUT = sample_turn(1).output_ids
ALLOWED = [[id, 7_000] for id in OUTPUT.tolist()]
MASK = TokenFile.of_mask(SamplingMask.of(ALLOWED), len(sample_turn(1).delta_ids))
READ = len(sample_turn(1).delta_ids) + len(OUTPUT)  # with the token before its first, and without its last
EXPERTS = TokenFile.of_experts(np.zeros((READ, 2, 1), np.uint8), -1)

BROKEN_FILES = {
    "mask_that_is_missing": ("was sampled from some ids alone, and has no sampling mask", (EXPERTS,)),
    "mask_of_other_tokens": ("of tokens 3..11; its own are 4..12", (MASK.moved(-1),)),
    "mask_without_what_was_drawn": (f"output token 2 could not be {OUTPUT[2]}",
                                    (TokenFile.of_mask(SamplingMask.of([*ALLOWED[:2], [7_000], *ALLOWED[3:]]), 4),)),
    "file_that_is_cut": ("that can't be: a sampling mask", (TokenFile._of(MASK.kind, MASK.data[:-4], 4, 8),)),
    "experts_of_what_was_never_read": ("of tokens -1..12;", (MASK, replace(EXPERTS, end=READ))),
    "file_that_is_lost": ("which the store has not", (replace(MASK, sha256="0" * 64, data=b""),)),
    "file_with_another_content": ("with another content", (replace(MASK, sha256="1" * 64),)),
}  # fmt: skip


async def test_files_of_tokens_that_fit_have_no_finding() -> None:
    told = other_turn(1, sampling=CUT, files=(MASK, EXPERTS))
    assert (await verified(changed(TurnRecorded, 2, turn=told))).findings == ()


@pytest.mark.parametrize("name", BROKEN_FILES)
async def test_broken_file_of_tokens_is_found(name: str) -> None:
    why, files = BROKEN_FILES[name]
    broken = other_turn(1, sampling=CUT, files=files)
    (finding,) = (await verified(changed(TurnRecorded, 2, turn=broken))).findings
    assert (finding.invariant, finding.where) == (2, "sample-0-0-0")
    assert why in finding.message


async def test_reward_of_a_turn_that_is_not_there_is_found() -> None:
    events = sample_events()
    scored = [at for at in places(events, RolloutEnded) if events[at].score is not None]
    end = events[scored[0]]
    events[scored[0]] = replace(end, score=replace(end.score, turn_rewards={77: 1.0}))
    (finding,) = (await verified(events)).findings
    assert (finding.invariant, finding.where) == (5, end.rollout_id)
    assert "a reward of turn 77" in finding.message


async def test_turn_recorded_twice_is_found() -> None:
    (finding,) = (await verified(twice(TurnRecorded, 3)(sample_events()))).findings
    assert finding == Finding(3, "sample-0-0-0", "turn 2 is recorded twice: its tokens would train twice")


async def test_step_recorded_twice_is_found() -> None:
    (finding,) = (await verified(twice(StepRecorded, 0)(sample_events()))).findings
    assert (finding.invariant, finding.message) == (4, "step 0 is recorded twice")


async def test_rollout_that_must_not_train_is_found_training() -> None:
    events = sample_events()
    start = events[places(events, RolloutStarted)[6]]
    assert isinstance(start, RolloutStarted)
    report = await verified(changed(RolloutStarted, 6, request=replace(start.request, trainable=False)))
    assert set(found(report)) == {(2, start.rollout_id)}


async def test_inexact_engine_is_exempt() -> None:
    turn = other_turn(1, logprob_kind="none", logprobs=np.zeros(0, np.float32))
    report = await verified(changed(TurnRecorded, 2, turn=turn))
    assert (report.findings, report.rows) == ((), 6)


TURNS = [sample_turn(0), sample_turn(1, parent=0), sample_turn(2, parent=0)]
ROWS = trajectory(TURNS).rows


def with_row(place: int, **changes: object) -> list[Row]:
    return [replace(row, **changes) if i == place else row for i, row in enumerate(ROWS)]


def trainable(row: Row, *flags: bool) -> tuple:
    sampled = iter(flags)
    return tuple(replace(span, trainable=next(sampled)) if span.sampled else span for span in row.spans)


BROKEN_ROWS = {
    "ids_changed": (1, "row 0 does not hold", with_row(0, ids=ROWS[0].ids[::-1])),
    "ids_cut": (1, "row 0 does not hold", with_row(0, ids=ROWS[0].ids[:-1])),
    "turns_that_are_no_branch": (1, "row 1 is of turns", with_row(1, turns=(1, 2))),
    "turns_unknown": (1, "row 1 is of turns", with_row(1, turns=(0, 9))),
    "spans_cut": (2, "row 0 has spans that don't tile", with_row(0, spans=ROWS[0].spans[:-1])),
    "logprobs_changed": (2, "row 0 has other logprobs", with_row(0, logprobs=ROWS[0].logprobs * 2)),
    "context_called_sampled": (2, "calls other tokens sampled",
                               with_row(0, spans=tuple(replace(span, sampled=True) for span in ROWS[0].spans))),
    "context_trained": (2, "trains tokens that were not sampled",
                        with_row(0, spans=(replace(ROWS[0].spans[0], trainable=True), *ROWS[0].spans[1:]))),
    "shared_span_trains_in_both_rows": (3, "turn 0 trains in 2 to 2 rows",
                                        with_row(1, spans=trainable(ROWS[1], True, True))),
    "span_trains_nowhere": (3, "turn 1 trains in 0 to 0 rows", with_row(0, spans=trainable(ROWS[0], True, False))),
    "row_left_out": (3, "turn 2 trains in 0 to 0 rows", list(ROWS[:1])),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_broken_row_is_found(name: str) -> None:
    invariant, why, rows = BROKEN_ROWS[name]
    ((broken, message),) = row_breaches(TURNS, rows)
    assert broken == invariant
    assert why in message


def test_correct_rows_have_no_breach() -> None:
    assert list(row_breaches(TURNS, ROWS)) == []
    assert ROWS[1].parent == 0 and ROWS[0].spans[0].role is Role.USER


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE members SET state = 'scored' WHERE group_id = 'sample-0' AND member = 1", "its events lead to"),
        ("UPDATE groups SET deliveries = 7 WHERE group_id = 'sample-0'", "7 deliveries"),
        ("UPDATE runs SET submitted = submitted + 1", "don't add up: 11 submitted = 3 acked"),
        ("UPDATE rollouts SET reward = 0.75 WHERE rollout_id = 'sample-0-0-0'", "reward=0.75"),
        ("DELETE FROM events WHERE kind = 'rollout_started' AND rollout_id = 'sample-4-1-0'", "its events lead to"),
    ],
)
async def test_projection_that_differs_from_the_events_is_found(tmp_path: Path, statement: str, why: str) -> None:
    path = tmp_path / "traces.db"
    store = await open_store(str(path))
    await store.append(sample_events())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)
    report = await verify(store)
    assert {finding.invariant for finding in report.findings} == {4}
    assert any(why in finding.message for finding in report.findings)
    await store.close()


async def test_correct_run_in_sqlite_has_no_finding(tmp_path: Path) -> None:
    store = await open_store(str(tmp_path / "traces.db"))
    await store.append(sample_events())
    assert await verify(store) == await verified(sample_events())
    await store.close()


async def test_child_that_outlives_its_parent_is_found() -> None:
    events = [event for event in sample_events() if getattr(event, "rollout_id", None) != "sample-0-1-0.0"]
    start = next(event for event in sample_events() if getattr(event, "rollout_id", None) == "sample-0-1-0.0")
    at = next(i for i, event in enumerate(events) if isinstance(event, RolloutEnded))
    report = await verified([*events[:at], start, *events[at:]])
    assert report.findings == (Finding(4, "sample-0-1-0.0", "its parent has ended and it has not"),)


async def test_child_without_a_score_is_found() -> None:
    report = await verified(changed(RolloutEnded, 0, score=None))
    assert found(report) == [(4, "sample-0-1-0.0")]


async def test_scored_member_that_is_not_delivered_is_found() -> None:
    report = await verified(changed(GroupClosed, 0, members=(0,)))
    assert found(report) == [(4, "sample-0")]


async def test_end_that_is_lost_is_found() -> None:
    ended = next(event for event in sample_events() if isinstance(event, RolloutEnded) and "-3-0-" in event.rollout_id)
    (finding,) = await tampered(lambda events: [event for event in events if event != ended])
    assert (finding.invariant, finding.where) == (4, "sample-3-0-0")


async def test_what_moves_while_it_is_checked_is_not_compared() -> None:
    run = SampleRun()
    start = run.start(0, 0)
    store = GrowingStore([start, run.end(start)])
    await store.append([run.started(), run.submitted(0), run.submitted(1)])
    assert (await verify(store)).findings == ()


async def test_failure_with_a_score_is_found() -> None:
    events = sample_events()
    place = next(n for n, at in enumerate(places(events, RolloutEnded)) if events[at].status is Status.FAILED)
    report = await verified(changed(RolloutEnded, place, score=Score(0.0)))
    assert [finding.invariant for finding in report.findings] == [5]


async def test_member_without_a_score_in_a_closed_group_is_found() -> None:
    report = await verified(changed(GroupClosed, 1, members=(0, 1)))
    assert report.findings == (Finding(5, "sample-1", "was closed with members [0], which have no valid score"),)


async def tampered(edit: Edit) -> Iterable[Finding]:
    store = TamperedStore(edit)
    await store.append(sample_events())
    return (await verify(store)).findings


async def test_lease_returned_twice_is_found() -> None:
    (finding,) = await tampered(twice(GroupReturned, 0))
    assert (finding.invariant, finding.where) == (6, "sample-0")


async def test_lease_acked_after_its_return_is_found() -> None:
    at = places(sample_events(), GroupReturned)[0]
    ack = GroupAcked(RunId("sample"), 1.0, SampleRun().group(0), LeaseId("sample-0@1"))
    (finding,) = await tampered(
        lambda events: [*events[: at + 1], ack, *events[at + 1 :]] if len(events) > at else events
    )
    assert (finding.invariant, finding.where) == (6, "sample-0")


async def test_lease_used_for_two_deliveries_is_found() -> None:
    run = SampleRun()
    events = changed(GroupLeased, 1, lease_id=run.lease(0, 1))
    events[places(events, GroupAcked)[0]] = run.acked(0, 1)
    report = await verified(events)
    assert found(report) == [(6, "sample-0")]


async def test_turn_after_the_end_is_found() -> None:
    run = SampleRun()
    report = await verified([*sample_events(), run.turn(run.start(4, 0), sample_turn(0))])
    assert report.findings == (Finding(6, "sample-4-0-0", "TurnRecorded after its end"),)


async def test_group_acked_twice_is_found() -> None:
    (finding,) = await tampered(twice(GroupAcked, 0))
    assert (finding.invariant, finding.where) == (9, "sample-0")


async def test_delivery_with_a_wrong_number_is_found() -> None:
    report = await verified(changed(GroupLeased, 1, delivery=5))
    assert report.findings == (Finding(9, "sample-0", "calls delivery 2 its delivery 5"),)


async def test_what_was_verified_is_not_read_again_and_the_rest_is() -> None:
    run, store = SampleRun(), MemoryTraceStore()
    one, late = run.start(0, 0), run.start(1, 0)
    done = [run.started(), run.submitted(0, k=1), one, run.submitted(1, k=1), late]
    await store.append([*done, run.turn(one, sample_turn(0)), run.end(one), run.closed(0, 0), run.acked(0)])
    first, known = await verify_from(store, {})
    assert (first.ok, known[RunId("sample")].groups) == (True, 1)
    await store.append([run.turn(late, sample_turn(0)), run.end(late), run.closed(1, 0), run.acked(1)])
    second, known = await verify_from(store, known)
    assert (second.ok, second.rollouts, second.turns) == (True, 1, 1)  # the first group's were not read
    assert known[RunId("sample")].groups == 2
    third, same = await verify_from(store, known)
    assert (third.ok, third.events, same) == (True, 0, known)


async def test_what_breaks_after_a_verify_is_found_by_the_next() -> None:
    run, store = SampleRun(), MemoryTraceStore()
    await store.append([run.started(), run.submitted(0, k=1)])
    _, known = await verify_from(store, {})
    start = run.start(0, 0)
    bad = replace(sample_turn(0), logprobs=np.full(8, 0.5, np.float32))
    await store.append([start, run.turn(start, bad), run.end(start)])
    report, still = await verify_from(store, known)
    assert found(report) == [(2, "sample-0-0-0")]
    assert still == known
