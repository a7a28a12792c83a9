"""Rollouts do the same wherever they run, and a process that dies takes none of them along."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest

from envhub.contracts.delivery import RunLimits
from envhub.contracts.environment import Resume
from envhub.contracts.events import (
    Event,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    TurnRecorded,
)
from envhub.contracts.ids import RolloutId, group_of
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import GroupRequest
from envhub.errors import Boundary, UsageError, WorkersLost
from envhub.monitor.verify import verify
from envhub.rollouts import team
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.process_workers import ProcessWorkers
from envhub.rollouts.replay import ENDED_EARLY
from envhub.rollouts.staffing import Bounds
from envhub.store import codec
from envhub.testing.runs import request
from tests.rollouts.crews import CrewRun, open_crew_run
from tests.rollouts.worlds import ENDLESS, STEP, THREE, branching_task

pytestmark = pytest.mark.anyio
TREE = [((),), (), ((), ())]
SIZE = 7


def tree(k: int = 1) -> GroupRequest:
    group = request("test/branching-v0", k=k)
    return replace(group, rollout=replace(group.rollout, task=branching_task(TREE)))


def ends(events: Sequence[Event], outcomes: Sequence[Outcome]) -> list[RolloutEnded]:
    """Of all tries of the members with those outcomes."""
    members = {outcome.rollout_id.rpartition("-")[0] for outcome in outcomes}
    ended = (event for event in events if isinstance(event, RolloutEnded))
    return [event for event in ended if event.rollout_id.rpartition("-")[0] in members]


async def test_a_group_closes_when_all_its_members_have_ended(run: CrewRun) -> None:
    outcomes = await run.play(request("test/walk-v0", k=4, task=THREE))
    assert [outcome.reward for outcome in outcomes] == [3.0] * 4
    assert [outcome.usage.turns for outcome in outcomes] == [3] * 4
    assert [len(outcome.trajectory.rows) for outcome in outcomes] == [1] * 4
    assert len({outcome.response for outcome in outcomes}) > 1
    assert (await run.members()).drained


async def test_a_tree_comes_back_whole(run: CrewRun) -> None:
    (outcome,) = await run.play(tree())
    assert outcome.reward == SIZE
    ids = [one.rollout_id for one in outcome.tree()]
    assert [id.removeprefix(outcome.rollout_id) for id in ids] == ["", ".0", ".0.0", ".1", ".2", ".2.0", ".2.1"]


async def test_a_fault_in_a_plug_in_is_a_failure_of_its_member(run: CrewRun) -> None:
    (outcome,) = await run.play(request("test/walk-v0", task=STEP))
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.ENVIRONMENT


async def test_a_failed_try_is_marked_as_made_up_for_where_another_one_follows(run: CrewRun) -> None:
    outcomes = await run.play(request("test/flaky-v0", k=2, max_tries=2))
    given_up = await run.play(request("test/flaky-v0", max_tries=1))
    refilled = await run.play(replace(request("test/flaky-v0", k=2), refills=1))
    events = await run.events()
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETED] * 2
    assert Counter(event.requeued for event in ends(events, outcomes)) == {True: 2, False: 2}
    assert [event.requeued for event in ends(events, given_up)] == [False]
    assert Counter(outcome.status for outcome in refilled) == {Status.COMPLETED: 1, Status.FAILED: 1}


async def test_the_first_k_members_close_a_group_and_the_others_are_cancelled(run: CrewRun) -> None:
    group = await run.manager.start(replace(request("test/long-restart-v0", k=1), extra=39))
    await group.handed_on.wait()
    assert len(group.outcomes) < 40  # as many as may act at once, at most
    assert (await run.members()).drained


async def test_a_cancelled_group_is_accounted_for(run: CrewRun) -> None:
    before = (await run.members()).of(MemberState.CANCELLED)
    group = await run.manager.start(request("test/walk-v0", k=4, task=ENDLESS))
    await anyio.sleep(0.1)
    await run.manager.cancel(group.id)
    assert (await run.members()).of(MemberState.CANCELLED) == before + 4


@pytest.mark.parametrize("mode", PauseMode)
async def test_a_paused_rollout_does_nothing_until_it_is_resumed(run: CrewRun, mode: PauseMode) -> None:
    group = await run.manager.start(request("test/long-restart-v0", k=4))
    scope = Scope(group_id=group.id)
    await run.manager.pause(scope, mode)
    with pytest.raises(UsageError, match="is paused already"):
        await run.manager.pause(scope, mode)
    await anyio.sleep(0.1)
    before = len(await run.events())
    await anyio.sleep(0.1)
    assert len(await run.events()) == before
    await run.manager.resume(scope)
    await group.handed_on.wait()
    assert [outcome.reward for outcome in group.outcomes.values()] == [10.0] * 4
    changes = Counter(type(event) for event in await run.events())
    assert changes[RolloutPaused] == changes[RolloutContinued]


async def test_an_aborted_rollout_ends_with_what_it_has(run: CrewRun) -> None:
    group = await run.manager.start(request("test/walk-v0", task=ENDLESS))
    turn = anyio.Event()
    run.recorder.listen(lambda event: turn.set() if isinstance(event, TurnRecorded) else None)
    await turn.wait()
    await run.manager.abort(Scope(rollout_id=RolloutId(f"{group.id}-0-0")))
    await group.handed_on.wait()
    assert group.outcomes[0].status is Status.CANCELLED
    assert group.outcomes[0].trajectory.rows


async def test_what_was_recorded_holds_the_invariants(run: CrewRun) -> None:
    assert not (await verify(run.store)).findings


async def test_a_manager_passes_on_what_workers_record_without_looking_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda kind, payload: (opened.append(kind), decode(kind, payload))[1])
    async with open_crew_run(1) as run:
        (outcome,) = await run.play(request("test/walk-v0", task=THREE))
        assert set(opened) == {"rollout_started", "rollout_ended"}
        assert outcome.trajectory.rows
        assert opened.count("turn_recorded") == outcome.usage.turns


async def test_a_run_is_the_same_wherever_it_runs() -> None:
    async def recorded(processes: int) -> dict[str, list[bytes]]:
        async with open_crew_run(processes) as run:
            for group in (tree(k=2), request("test/walk-v0", k=2, task=THREE), request("test/flaky-v0", max_tries=2)):
                await run.play(group)
            events: dict[str, list[bytes]] = {}
            for event in await run.events():
                events.setdefault(getattr(event, "rollout_id", ""), []).append(timeless(event))
            return events

    assert await recorded(2) == await recorded(0)


def timeless(event: Event) -> bytes:
    """An event without what the clock says."""
    event = replace(event, at=0.0)
    if isinstance(event, TurnRecorded):
        event = replace(event, turn=replace(event.turn, timings=type(event.turn.timings)()))
    elif (step := getattr(event, "step", None)) is not None:
        event = replace(event, step=replace(step, started_at=0.0, ended_at=0.0))  # type: ignore[call-arg]
    elif isinstance(event, RolloutEnded) and event.score is not None:
        event = replace(event, score=replace(event.score, durations={}))
    return codec.encode(event)


def kill(workers: object, chosen: random.Random, number: int = signal.SIGKILL) -> None:
    assert isinstance(workers, ProcessWorkers)
    if workers.pids:
        with suppress(ProcessLookupError):  # it is dead already, and nobody knows yet
            os.kill(chosen.choice(workers.pids), number)


async def kill_twenty(workers: object, chosen: random.Random, dead: anyio.Event) -> None:
    assert isinstance(workers, ProcessWorkers)
    for deaths in range(20):
        while workers.deaths == deaths:
            await anyio.sleep(chosen.uniform(0.0, 0.3))
            kill(workers, chosen)
    dead.set()


async def test_twenty_killed_workers_lose_no_member_and_nothing_is_recorded_twice() -> None:
    groups = [tree(k=2), *(request(f"test/long-{way}-v0", k=4) for way in Resume)]
    dead = anyio.Event()
    async with open_crew_run(4, latency_s=0.03) as run, anyio.create_task_group() as tasks:
        tasks.start_soon(kill_twenty, run.workers, random.Random(0), dead)
        while not dead.is_set():
            for group in [await run.manager.start(group) for group in groups]:
                await group.handed_on.wait()
        events, members = await run.events(), await run.members()
        assert isinstance(run.workers, ProcessWorkers)
        pids = run.workers.pids
    assert not (await verify(run.store)).findings
    assert members.submitted >= 14
    assert members.drained
    started = Counter(event.rollout_id for event in events if isinstance(event, RolloutStarted))
    ended = Counter(event.rollout_id for event in events if isinstance(event, RolloutEnded))
    assert started == ended
    assert set(started.values()) == {1}
    failures = {event.failure for event in events if isinstance(event, RolloutEnded)}
    assert failures == {None, ENDED_EARLY}
    assert any(isinstance(event, RolloutResumed) for event in events)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_worker_that_hangs_is_killed_and_replaced() -> None:
    async with open_crew_run(2, hang_s=2.0) as run:
        assert isinstance(run.workers, ProcessWorkers)
        kill(run.workers, random.Random(0), signal.SIGSTOP)
        with anyio.fail_after(20):
            outcomes = await run.play(request("test/long-rerun_tools-v0", k=4))
        assert [outcome.reward for outcome in outcomes] == [10.0] * 4
        assert run.workers.deaths == 1


async def test_a_member_that_kills_its_workers_fails_and_the_others_go_on() -> None:
    async with open_crew_run(2) as run:
        poisoned = await run.manager.start(request("test/poison-v0", max_tries=1))
        await run.play(request("test/long-rerun_tools-v0", k=4))
        with anyio.fail_after(30):
            await poisoned.handed_on.wait()
    (outcome,) = poisoned.outcomes.values()
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.OPERATOR
    assert not (await verify(run.store)).findings


async def test_an_environment_of_which_one_may_live_lives_in_one_worker() -> None:
    async with open_crew_run(2) as run:
        outcomes = await run.play(request("test/single-v0", k=4))
    assert [outcome.reward for outcome in outcomes] == [10.0] * 4


async def test_workers_that_cannot_be_opened_end_the_run_before_it_began() -> None:
    with pytest.RaisesGroup(
        pytest.RaisesExc(UsageError, match="can't import 'tests.nowhere:platform'"), flatten_subgroups=True
    ):
        async with open_crew_run(1, factory="tests.nowhere:platform"):
            raise AssertionError


@pytest.mark.parametrize(("ahead_s", "which"), [(3600, "behind"), (-3600, "ahead of")])
async def test_a_worker_whose_clock_is_wrong_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, ahead_s: float, which: str
) -> None:
    monkeypatch.setattr(team, "time", SimpleNamespace(time=lambda: time.time() + ahead_s))
    why = rf"worker process \d+ has a clock 3,[56]\d\d s {which} its manager's; set both right"
    with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=why), flatten_subgroups=True):
        async with open_crew_run(1):
            raise AssertionError


async def test_workers_that_die_and_die_end_the_run() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(WorkersLost, match="ended with exit code 7"), flatten_subgroups=True):
        async with open_crew_run(1, factory="tests.rollouts.crews:deadly"):
            raise AssertionError


def test_a_crew_of_nobody_is_refused() -> None:
    with pytest.raises(UsageError, match="0 to 2 worker processes; there must be 1 at least"):
        Bounds(0, 2)


async def most_at_once(run: CrewRun, groups: Sequence[RolloutGroup]) -> int:
    """In how many turns of these groups the model was at the same time."""
    ids = {group.id for group in groups}
    events = [event for event in await run.events() if isinstance(event, TurnRecorded)]
    turns = [event.turn.timings for event in events if group_of(event.rollout_id) in ids]
    now, most = 0, 0
    for _, change in sorted(both for turn in turns for both in ((turn.started_at, 1), (turn.ended_at, -1))):
        now += change
        most = max(most, now)
    return most


async def test_a_worker_that_needs_more_of_a_limit_has_what_others_do_not_need() -> None:
    async with open_crew_run(2, latency_s=0.5, max_running=4) as run:
        bushy = request("test/branching-v0", k=1)
        bushy = replace(bushy, rollout=replace(bushy.rollout, task=branching_task([()] * 8)))
        assert await most_at_once(run, [await run.ended(bushy)]) == 4  # all of them in one worker
        crowd = [await run.manager.start(request("test/walk-v0", k=6, task=THREE)) for _ in range(3)]
        for group in crowd:
            await group.handed_on.wait()
        assert await most_at_once(run, crowd) == 4  # in both together


async def test_a_limit_that_is_changed_holds_in_all_workers() -> None:
    async with open_crew_run(2, latency_s=0.3, max_running=8) as run:
        await run.manager.limit(RunLimits(max_running=2))
        assert (await run.manager.state()).limits.max_running == 2
        await anyio.sleep(1.0)  # both have heard of it
        assert await most_at_once(run, [await run.ended(request("test/walk-v0", k=8))]) == 2


async def test_there_are_more_workers_while_there_is_more_to_do_and_none_is_ended_under_a_rollout() -> None:
    async with open_crew_run(1, max_processes=3, latency_s=0.3, max_running=12, idle_s=2.0) as run:
        workers = run.workers
        assert isinstance(workers, ProcessWorkers)
        assert len(workers.pids) == 1
        groups = [await run.manager.start(request("test/long-rerun_tools-v0", k=8)) for _ in range(4)]
        with anyio.fail_after(60):
            while len(workers.pids) < 3 or not all(workers.tries):  # noqa: ASYNC110 - nobody announces it
                await anyio.sleep(0.1)
            for group in groups:
                await group.handed_on.wait()
            late = await run.manager.start(request("test/long-rerun_tools-v0", k=3))  # in several of them
            while len(workers.pids) > 1:  # noqa: ASYNC110
                await anyio.sleep(0.1)
            await late.handed_on.wait()
        assert workers.deaths == 0
        assert not any(isinstance(event, RolloutResumed) for event in await run.events())
        assert (await run.members()).drained
        assert not (await verify(run.store)).findings
