"""Groups close with what their members did; faults are outcomes, never rewards; every member is accounted for."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import takewhile
from typing import ClassVar, TypeAlias

import anyio
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.delivery import ClosedGroup, RunLimits
from envhub.contracts.events import Event, GroupClosed, RolloutEnded, RolloutStarted, TurnRecorded
from envhub.contracts.ids import PolicyId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits
from envhub.contracts.turn import Sampling, Timings
from envhub.engines.scripted import ScriptInput
from envhub.errors import Boundary, EngineFault, UsageError
from envhub.monitor.verify import verify
from envhub.registry import environments
from envhub.rollouts.journal import Journal
from envhub.store import codec
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing import virtual_time
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool
from tests.rollouts.worlds import HANG, ONE, THREE, TYPES, branching_task

pytestmark = pytest.mark.anyio


def step(asked: ScriptInput) -> str:
    return f"step {asked.seed % 1000}"


async def only(run: ScriptedRun, group: GroupRequest) -> Outcome:
    (outcome,) = await run.play(group)
    return outcome


def judged_by(name: str, **changes: object) -> GroupRequest:
    group = request("test/judged-v0", **changes)  # type: ignore[arg-type]
    environment = EnvironmentRef(group.rollout.environment.id, {"judge": name})
    return replace(group, rollout=replace(group.rollout, environment=environment))


async def test_a_group_closes_when_all_its_members_have_ended() -> None:
    async with open_scripted_run(step) as run:
        outcomes = await run.play(request("test/walk-v0", k=4, task=THREE))
        assert [outcome.reward for outcome in outcomes] == [3.0] * 4
        assert [outcome.usage.turns for outcome in outcomes] == [3] * 4
        assert len({outcome.response for outcome in outcomes}) > 1  # members sample with seeds of their own
        events = await run.events()
        assert [event.members for event in events if isinstance(event, GroupClosed)] == [(0, 1, 2, 3)]
        members = await run.members()
    assert members.of(MemberState.ACKED) == 4
    assert members.drained


async def test_what_a_plug_in_gives_is_recorded_with_the_types_that_were_promised() -> None:
    async with open_scripted_run(step) as run:
        walked = await only(run, request("test/walk-v0", task=TYPES))
        judged = await only(run, judged_by("boolean"))
        events = await run.events()
    assert (walked.reward, judged.reward) == (1.0, 1.0)
    for event in events:
        assert isinstance(codec.decode(codec.kind_of(event), codec.encode(event)), type(event))


async def test_a_task_that_holds_no_data_is_refused_before_it_is_submitted() -> None:
    async with open_scripted_run(step) as run:
        good = request("test/walk-v0")
        bad = replace(good.rollout.task, metadata={"thing": object()})
        with pytest.raises(UsageError, match="can't be stored"):
            await run.manager.start(replace(good, rollout=replace(good.rollout, task=bad)))
        assert (await run.members()).submitted == 0


async def test_a_judge_without_its_policy_is_refused_before_it_is_submitted() -> None:
    async with open_scripted_run(step) as run:
        good = request("test/walk-v0")
        with pytest.raises(UsageError, match="judge 'rubric' asks policy 'judge', which this run does not have"):
            await run.manager.start(replace(good, rollout=replace(good.rollout, judge="rubric")))
        with pytest.raises(UsageError, match="group judge 'pairwise' asks policy 'judge'"):
            await run.manager.start(replace(good, group_judge="pairwise"))
        assert (await run.members()).submitted == 0


def test_waiting_for_a_sandbox_is_not_the_episodes_time() -> None:
    async def play() -> list[Outcome]:
        async with open_pool(FakeBackend(), PoolLimits(1)) as pool, open_scripted_run(step, sandboxes=pool) as run:
            task = branching_task((), sandbox=True)
            task = replace(task, metadata={**task.metadata, "work_s": 25})
            group = request("test/branching-v0", k=4, limits=Limits(deadline_s=80))
            return list(await run.play(replace(group, rollout=replace(group.rollout, task=task))))

    outcomes = virtual_time.run(play)
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETED] * 4


async def test_parallel_calls_share_one_budget() -> None:
    async with open_scripted_run(step, latency_s=0.01) as run:
        outcome = await only(run, judged_by("crowd", limits=Limits(max_tokens=20)))
    judges = [row for row in outcome.trajectory.rows if not row.mask(trainable=True).any()]
    assert sum(int(row.mask(trainable=False).sum()) for row in judges) <= 20


async def test_what_an_answers_own_length_cut_is_not_said_to_be_the_budgets_doing() -> None:
    group = request("test/walk-v0", task=ONE)
    short = replace(group, rollout=replace(group.rollout, sampling=Sampling(max_tokens=3)))
    async with open_scripted_run(step) as run:
        outcome = await only(run, short)
    assert (outcome.truncated_by, outcome.response) == ("length", "ste")


async def test_a_run_holds_no_more_groups_than_it_may() -> None:
    async with open_scripted_run(step) as run:
        await run.manager.limit(RunLimits(max_groups=2))
        first, second = [await run.manager.start(request("test/walk-v0", task=HANG)) for _ in range(2)]
        with anyio.move_on_after(0.05) as waiting:
            await run.manager.start(request("test/walk-v0", task=HANG))
        assert waiting.cancelled_caught
        await run.manager.cancel(first.id)
        with anyio.fail_after(30):
            await run.manager.start(request("test/walk-v0"))
            await run.manager.cancel(second.id)


async def test_a_group_that_has_ended_can_not_be_cancelled_any_more() -> None:
    async with open_scripted_run(step) as run:
        group = await run.manager.start(request("test/walk-v0"))
        await group.ended.wait()
        with pytest.raises(UsageError, match="has ended"):
            await run.manager.cancel(group.id)
        await run.manager.finish()
        with pytest.raises(UsageError, match="draining"):
            await run.manager.start(request("test/walk-v0"))


async def test_an_engine_that_dies_is_an_engine_failure() -> None:
    def die(asked: ScriptInput) -> str:
        raise ConnectionError("no engine")

    async with open_scripted_run(die) as run:
        outcome = await only(run, request("test/walk-v0"))
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.ENGINE


async def test_a_failed_member_leaves_a_short_group_whose_statistics_it_never_enters() -> None:
    seen: set[int] = set()

    def fail_first(asked: ScriptInput) -> str:
        seen.add(asked.seed)
        if len(seen) <= 3:  # the first member's call and its retries, each with a seed of its own
            raise EngineFault("down")
        return "step"

    async with open_scripted_run(fail_first, max_running=1) as run:
        outcomes = await run.play(request("test/walk-v0", k=3))
        closed = [event for event in await run.events() if isinstance(event, GroupClosed)]
        members = await run.members()
    assert [outcome.status for outcome in outcomes] == [Status.FAILED, Status.COMPLETED, Status.COMPLETED]
    assert closed[0].members == (1, 2)
    assert (members.of(MemberState.FAILED), members.of(MemberState.ACKED)) == (1, 2)


async def test_a_retryable_failure_is_tried_again_and_both_tries_are_kept() -> None:
    calls = 0

    def fail_first_try(asked: ScriptInput) -> str:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise EngineFault("down")
        return "step"

    async with open_scripted_run(fail_first_try) as run:
        outcome = await only(run, request("test/walk-v0", max_tries=2))
        ended = [event for event in await run.events() if isinstance(event, RolloutEnded)]
    assert outcome.status is Status.COMPLETED
    assert [event.rollout_id for event in ended] == ["test-0-0-0", "test-0-0-1"]
    assert [event.requeued for event in ended] == [True, False]


def test_an_example_in_the_prompt_is_nobodys_answer() -> None:
    tasks = environments.get("envhub/arithmetic-v0").load_tasks()
    same = next(number for number, task in enumerate(tasks) if task.answer == 5)  # like the example's

    async def play() -> Outcome:
        async with open_scripted_run(step, latency_s=100) as run:
            return await only(run, request("envhub/arithmetic-v0", task=same, limits=Limits(deadline_s=10)))

    outcome = virtual_time.run(play)
    assert outcome.truncated_by == "deadline"
    assert outcome.response == ""
    assert outcome.reward == 0.0


async def test_a_cancelled_group_is_accounted_for_and_frees_its_slots() -> None:
    async with open_scripted_run(step, max_running=2) as run:
        group = await run.manager.start(request("test/walk-v0", k=4, task=HANG))
        await anyio.wait_all_tasks_blocked()
        await run.manager.cancel(group.id)
        members = await run.members()
        assert run.slots.free == 2
        report = await verify(run.store)
    assert members.of(MemberState.CANCELLED) == 4
    assert not report.findings


def test_of_a_cancelled_group_nothing_is_handed_on_though_some_members_had_scored() -> None:
    async def play() -> None:
        async with open_scripted_run(step, latency_s=10.0, lease_s=60, max_running=1) as run:
            group = await run.manager.start(request("test/walk-v0", k=2, task=ONE))
            await anyio.sleep(15)
            assert [outcome.reward for outcome in group.outcomes.values()] == [1.0]
            await run.manager.cancel(group.id)
            await run.manager.finish()
            assert await run.feed.lease("trainer") is None
            assert not any(isinstance(event, GroupClosed) for event in await run.events())
            assert (await run.members()).of(MemberState.CANCELLED) == 2
            assert not (await verify(run.store)).findings

    virtual_time.run(play)


async def test_leaving_a_run_early_records_what_was_running_and_queues_it_again() -> None:
    store = MemoryTraceStore()
    with anyio.CancelScope() as scope:
        async with open_scripted_run(step, store=store) as run:
            await run.manager.start(request("test/walk-v0", k=2, task=HANG))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    (summary,) = await store.runs()
    assert summary.members.conserved
    assert summary.members.of(MemberState.QUEUED) == 2
    assert not (await verify(store)).findings


def test_numbers_that_cannot_work_are_refused() -> None:
    good = request("test/walk-v0")
    with pytest.raises(UsageError, match="k of a group is 0"):
        replace(good, k=0)
    with pytest.raises(UsageError, match="max_turns is 0"):
        Limits(max_turns=0)


async def test_an_older_version_than_the_newest_announced_is_refused() -> None:
    async with open_scripted_run(step) as run:
        await run.manager.announce(PolicyId("policy"), 3)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="below the newest"):
            await run.manager.announce(PolicyId("policy"), 2)  # type: ignore[arg-type]
        await run.play(request("test/walk-v0"))
        closed = [event for event in await run.events() if isinstance(event, GroupClosed)]
    assert closed[0].policy_version == 3


Shape: TypeAlias = Sequence["Shape"]
shapes: st.SearchStrategy[Shape] = st.recursive(st.just(()), lambda below: st.lists(below, max_size=3), max_leaves=10)


def size(shape: Shape) -> int:
    return 1 + sum(map(size, shape))


@settings(deadline=None, max_examples=30)
@given(forest=st.lists(shapes, min_size=1, max_size=3), max_running=st.integers(1, 2))
def test_random_trees_of_rollouts_end_with_every_child_accounted_for(forest: Sequence[Shape], max_running: int) -> None:
    async def play() -> None:
        async with open_scripted_run(step, max_running=max_running) as run:
            with anyio.fail_after(20):
                groups = []
                for shape in forest:
                    group = request("test/branching-v0")
                    rollout = replace(group.rollout, task=branching_task(shape))
                    groups.append(await run.manager.start(replace(group, rollout=rollout)))
                for group in groups:
                    await group.handed_on.wait()
            for shape, group in zip(forest, groups, strict=True):
                assert group.outcomes[0].reward == size(shape)
                assert len(group.outcomes[0].tree()) == size(shape)
            assert run.slots.free == max_running
            events = await run.events()
            started = {event.rollout_id for event in events if isinstance(event, RolloutStarted)}
            ended = {event.rollout_id for event in events if isinstance(event, RolloutEnded)}
            assert started == ended
            assert len(started) == sum(map(size, forest))
            assert not (await verify(run.store)).findings

    anyio.run(play)


@settings(deadline=None, max_examples=30)
@given(forest=st.lists(shapes, min_size=1, max_size=3), max_running=st.integers(1, 2), max_sandboxes=st.integers(1, 2))
def test_random_trees_that_keep_sandboxes_end_without_a_deadlock(
    forest: Sequence[Shape], max_running: int, max_sandboxes: int
) -> None:
    async def play() -> None:
        backend = FakeBackend()
        async with (
            open_pool(backend, PoolLimits(max_sandboxes)) as pool,
            open_scripted_run(step, max_running=max_running, sandboxes=pool) as run,
        ):
            with anyio.fail_after(20):
                for shape in forest:
                    group = request("test/branching-v0")
                    rollout = replace(group.rollout, task=branching_task(shape, sandbox=True))
                    await run.manager.start(replace(group, rollout=rollout))
                await run.manager.finish()
            failures = [event.failure for event in await run.events() if isinstance(event, RolloutEnded)]
            assert pool.stats().live == 0
            assert run.slots.free == max_running
            assert not (await verify(run.store)).findings
        assert backend.most <= max_sandboxes
        assert all(sandbox.closed == 1 for sandbox in backend.made)
        assert {failure.boundary for failure in failures if failure} <= {Boundary.SANDBOX}
        if not any(forest):  # nobody waits for a child: a lease always comes back
            assert not any(failures)

    anyio.run(play)


async def test_a_tree_over_its_limit_is_an_error_to_the_parent_and_never_a_wait() -> None:
    async with open_scripted_run(step) as run:
        group = request("test/branching-v0", limits=Limits(max_live=3))
        rollout = replace(group.rollout, task=branching_task([(), (), ()]))
        with anyio.fail_after(30):
            outcome = await only(run, replace(group, rollout=rollout))
    assert outcome.failure is not None
    assert "its limit is 3" in outcome.failure.message


async def test_children_one_after_the_other_do_not_add_up() -> None:
    async with open_scripted_run(step) as run:
        group = request("test/branching-v0", limits=Limits(max_live=2))
        task = branching_task([(), (), ()])
        task = replace(task, metadata={**task.metadata, "serial": True})
        outcome = await only(run, replace(group, rollout=replace(group.rollout, task=task)))
    assert outcome.reward == 4.0


async def test_what_a_judge_asks_of_the_policy_is_recorded_and_does_not_train() -> None:
    async with open_scripted_run(step) as run:
        outcome = await only(run, judged_by("asking", limits=Limits(max_turns=1)))
    own, judges = outcome.trajectory.rows
    assert own.mask(trainable=True).any()
    assert judges.mask(trainable=False).any()
    assert not judges.mask(trainable=True).any()


async def test_a_sandbox_is_back_before_its_rollout_has_ended() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool, open_scripted_run(step, sandboxes=pool) as run:
        live_at_end: list[int] = []
        run.recorder.listen(
            lambda event: live_at_end.append(pool.stats().live) if isinstance(event, RolloutEnded) else None
        )
        group = request("test/branching-v0")
        await run.play(replace(group, rollout=replace(group.rollout, task=branching_task((), sandbox=True))))
    assert live_at_end == [0]
    assert [sandbox.ended for sandbox in backend.made] == [1]  # the agent's processes, before anything was judged


async def test_a_group_is_handed_on_only_when_its_events_are_durable() -> None:
    class Slow(MemoryTraceStore):
        """Takes its time, and knows what is durable."""

        durable: ClassVar[list[object]] = []

        async def append(self, events: Sequence[Event]) -> None:
            await anyio.sleep(0.02)
            await super().append(events)
            self.durable.extend(events)

    class Outlet:
        durable_closings = 0

        async def put(self, group: ClosedGroup) -> None:
            self.durable_closings = sum(isinstance(event, GroupClosed) for event in Slow.durable)

        def close(self) -> None: ...

    outlet = Outlet()
    async with open_scripted_run(step, store=Slow(), outlet=outlet) as run:
        await run.play(request("test/walk-v0"))
    assert outlet.durable_closings == 1


async def test_a_judge_may_start_rollouts_on_a_budget_of_its_own() -> None:
    async with open_scripted_run(step, max_running=1) as run:
        outcome = await only(run, judged_by("tree", limits=Limits(max_turns=1)))
    assert outcome.reward == 1.0
    assert [child.rollout_id for child in outcome.children] == ["test-0-0-0.0"]
    assert not any(span.trainable for row in outcome.children[0].trajectory.rows for span in row.spans)


async def test_what_a_judges_child_spent_is_not_its_members_when_their_process_dies() -> None:
    async with open_scripted_run(step) as run:
        outcome = await only(run, judged_by("tree"))
        events = await run.events()
    journal = Journal()
    for event in takewhile(lambda event: not isinstance(event, RolloutEnded), events):  # the child's is the first
        journal.take(event)
    ended = {event.rollout_id: event for event in journal.live[outcome.rollout_id].end()}
    usage = ended[outcome.rollout_id].usage
    assert len(ended) == 2
    assert usage.children == 1
    assert (usage.tree_steps, usage.critical_steps, usage.tree_tokens) == (1, 1, outcome.usage.tree_tokens)


def comparable(value: object) -> object:
    """A record without its times, to be compared bit for bit."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.tobytes())
    if isinstance(value, Timings):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        timed = {"at", "started_at", "ended_at", "durations"}
        return {
            field.name: comparable(getattr(value, field.name)) for field in fields(value) if field.name not in timed
        }
    if isinstance(value, tuple):
        return tuple(map(comparable, value))
    return value


async def trace(max_running: int, *, one_by_one: bool) -> dict[str, list[object]]:
    tree = request("test/branching-v0", k=2, task=0)
    tree = replace(tree, rollout=replace(tree.rollout, task=branching_task([((),), ()])))
    async with open_scripted_run(step, seed=7, max_running=max_running, latency_s=0.001) as run:
        for group in (*(request("test/walk-v0", k=3, task=task) for task in (ONE, THREE)), tree):
            started = await run.manager.start(group)
            if one_by_one:
                await started.handed_on.wait()
        await run.manager.finish()
        by_rollout: dict[str, list[object]] = {}
        for event in await run.events():
            if isinstance(event, RolloutStarted | TurnRecorded | RolloutEnded):
                by_rollout.setdefault(event.rollout_id, []).append((type(event).__name__, comparable(event)))
    return by_rollout


async def test_the_same_run_gives_the_same_trace_whatever_the_concurrency() -> None:
    alone, crowded = await trace(1, one_by_one=True), await trace(8, one_by_one=False)
    assert len(alone) == 14
    assert alone == crowded
