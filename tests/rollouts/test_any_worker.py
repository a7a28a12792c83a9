"""What groups, budgets, trees and pauses promise holds wherever rollouts run: in this process, or in others."""

from collections import Counter
from dataclasses import replace

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import GroupClosed, GroupDropped, RolloutEnded, RolloutPaused, RolloutStarted, TurnRecorded
from envhub.contracts.ids import EnvironmentId, GroupId, PolicyId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import EnvironmentRef, FilterRef, GroupRequest, Limits
from envhub.contracts.turn import Finish, Sampling
from envhub.errors import Boundary, UnknownName, UsageError
from envhub.monitor.verify import verify
from envhub.registry import filters
from envhub.rollouts.filters import GroupFilter
from envhub.store import codec
from envhub.testing.runs import request
from tests.rollouts.crews import CrewRun
from tests.rollouts.worlds import CANCEL, CLOSE, ENDLESS, EXIT, HANG, ONE, RESET, STEP, THREE, TYPES, branching_task

pytestmark = pytest.mark.anyio


def walk(task: int = ONE, **changes: object) -> GroupRequest:
    return replace(request("test/walk-v0", task=task), **changes)  # type: ignore[arg-type]


def judged_by(name: str, **changes: object) -> GroupRequest:
    group = request("test/judged-v0", **changes)  # type: ignore[arg-type]
    environment = EnvironmentRef(group.rollout.environment.id, {"judge": name})
    return replace(group, rollout=replace(group.rollout, environment=environment))


def tree(shape: object, **changes: object) -> GroupRequest:
    group = request("test/branching-v0", **changes)  # type: ignore[arg-type]
    return replace(group, rollout=replace(group.rollout, task=branching_task(shape)))


async def only(run: CrewRun, group: GroupRequest) -> Outcome:
    (outcome,) = await run.play(group)
    return outcome


class TestFaults:
    @pytest.mark.parametrize(
        ("task", "where"),
        [
            (RESET, Boundary.ENVIRONMENT),
            (STEP, Boundary.ENVIRONMENT),
            (EXIT, Boundary.ENVIRONMENT),
            (CANCEL, Boundary.AGENT),
            (CLOSE, Boundary.ENVIRONMENT),
        ],
    )
    async def test_what_breaks_is_a_failure_of_its_boundary_and_no_reward(
        self, run: CrewRun, task: int, where: Boundary
    ) -> None:
        group = await run.ended(walk(task, max_tries=1, k=1))
        (outcome,) = group.outcomes.values()
        assert outcome.failure is not None
        assert (outcome.status, outcome.failure.boundary, outcome.reward) == (Status.FAILED, where, None)
        assert await run.states(group) == {MemberState.FAILED: 1}
        assert (await only(run, walk())).reward == 1.0  # nobody else noticed

    @pytest.mark.parametrize("judge", ["nan", "outage", "slow"])
    async def test_a_judge_without_a_score_fails_the_member(self, run: CrewRun, judge: str) -> None:
        outcome = await only(run, judged_by(judge, limits=Limits(deadline_s=0.3)))
        assert outcome.failure is not None
        assert (outcome.status, outcome.failure.boundary, outcome.score) == (Status.FAILED, Boundary.JUDGE, None)
        assert len(outcome.trajectory.rows) == 1  # what was sampled is kept

    async def test_what_a_plug_in_gives_is_recorded_with_the_types_that_were_promised(self, run: CrewRun) -> None:
        group = await run.ended(walk(TYPES))
        assert group.outcomes[0].reward == 1.0
        for event in await run.events():
            assert isinstance(codec.decode(codec.kind_of(event), codec.encode(event)), type(event))

    @pytest.mark.parametrize(
        "changes", [{"policy_id": PolicyId("nobody")}, {"agent": "nobody"}, {"judge": "nobody"}], ids=str
    )
    async def test_unknown_names_are_refused_before_anything_is_submitted(
        self, run: CrewRun, changes: dict[str, object]
    ) -> None:
        before = (await run.members()).submitted
        with pytest.raises(UnknownName, match="nobody"):
            await run.manager.start(request("test/walk-v0", **changes))  # type: ignore[arg-type]
        assert (await run.members()).submitted == before


class TestLimits:
    @pytest.mark.parametrize(
        ("task", "limits", "sampling", "reason"),
        [
            (ENDLESS, Limits(max_turns=3), Sampling(), "turns"),
            (ENDLESS, Limits(max_tokens=50), Sampling(), "budget"),
            (ENDLESS, Limits(max_steps=2), Sampling(), "budget"),
            (HANG, Limits(deadline_s=0.1), Sampling(), "deadline"),
            (THREE, Limits(), Sampling(max_tokens=2), "length"),
        ],
    )
    async def test_a_limit_truncates_and_the_rest_is_judged(
        self, run: CrewRun, task: int, limits: Limits, sampling: Sampling, reason: str
    ) -> None:
        outcome = await only(run, request("test/walk-v0", task=task, limits=limits, sampling=sampling))
        assert (outcome.status, outcome.truncated_by) == (Status.TRUNCATED, reason)
        assert outcome.score is not None
        assert outcome.usage.sampled_tokens <= limits.max_tokens

    async def test_children_spend_what_their_parent_has(self, run: CrewRun) -> None:
        whole = await only(run, tree([(), ((),)]))
        limits = Limits(max_tokens=whole.usage.tree_tokens - 1)
        short = await only(run, tree([(), ((),)], limits=limits))
        assert whole.usage.tree_steps == 4
        assert whole.usage.critical_steps == 3  # of the root, its second child, and that one's
        assert any(one.truncated_by == "budget" for one in short.tree())
        assert short.usage.tree_tokens <= limits.max_tokens

    async def test_a_tree_that_is_too_large_is_an_error_to_who_starts_one_more(self, run: CrewRun) -> None:
        outcome = await only(run, tree([(), (), ()], limits=Limits(max_live=3)))
        assert outcome.failure is not None
        assert "its limit is 3" in outcome.failure.message

    async def test_a_judge_may_start_rollouts_on_a_budget_of_its_own(self, run: CrewRun) -> None:
        outcome = await only(run, judged_by("tree", limits=Limits(max_turns=1, max_steps=1)))
        assert outcome.reward == 1.0
        assert (outcome.usage.children, outcome.usage.tree_steps) == (1, 1)
        assert not any(span.trainable for row in outcome.children[0].trajectory.rows for span in row.spans)


Shape = tuple[object, ...]
shapes = st.recursive(st.just(()), lambda below: st.lists(below, max_size=3).map(tuple), max_leaves=10)


def size(shape: object) -> int:
    assert isinstance(shape, tuple)
    return 1 + sum(map(size, shape))


class TestTrees:
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(forest=st.lists(shapes, min_size=1, max_size=3))
    async def test_random_trees_end_with_every_child_accounted_for(self, run: CrewRun, forest: list[Shape]) -> None:
        groups = [await run.manager.start(tree(shape)) for shape in forest]
        for group, shape in zip(groups, forest, strict=True):
            await group.handed_on.wait()
            assert group.outcomes[0].reward == size(shape)
            assert len(group.outcomes[0].tree()) == size(shape)
        ids = {group.id for group in groups}
        lives = [event for event in await run.events() if isinstance(event, RolloutStarted | RolloutEnded)]
        started = Counter(one.rollout_id for one in lives if isinstance(one, RolloutStarted) and one.group_id in ids)
        ended = Counter(one.rollout_id for one in lives if isinstance(one, RolloutEnded) and one.rollout_id in started)
        assert started == ended
        assert started.total() == sum(map(size, forest))

    async def test_a_cancelled_group_ends_its_trees_from_the_leaves_up(self, run: CrewRun) -> None:
        group = await run.manager.start(tree([((),), ()] * 20, k=2, limits=Limits(max_live=100)))
        await anyio.sleep(0.1)
        await run.manager.cancel(group.id)
        assert await run.states(group) == {MemberState.CANCELLED: 2}
        assert not (await verify(run.store)).findings


def raising() -> GroupFilter:
    def keep(group: ClosedGroup) -> bool:
        raise ZeroDivisionError("no variance")

    return keep


filters.register("test-raising-anywhere", raising)


class TestGroups:
    async def test_a_group_closes_with_the_members_that_have_a_score(self, run: CrewRun) -> None:
        group = await run.ended(walk(THREE, k=4))
        closed = {event.group_id: event for event in await run.events() if isinstance(event, GroupClosed)}[group.id]
        assert (closed.members, closed.cut) == ((0, 1, 2, 3), False)
        assert len({outcome.response for outcome in group.outcomes.values()}) > 1  # each samples with a seed of its own

    async def test_the_first_k_of_more_make_the_group_and_the_rest_is_cancelled(self, run: CrewRun) -> None:
        group = await run.ended(replace(request("test/race-v0", k=2), extra=30))
        assert await run.states(group) == {MemberState.ACKED: 2, MemberState.CANCELLED: 30}
        closed = {event.group_id: event for event in await run.events() if isinstance(event, GroupClosed)}[group.id]
        assert (closed.members, closed.cut) == ((0, 1), True)

    async def test_the_deadline_closes_a_group_with_what_is_there(self, run: CrewRun) -> None:
        group = await run.ended(walk(HANG, k=2, deadline_s=0.1))
        assert group.outcomes == {}
        assert await run.states(group) == {MemberState.CANCELLED: 2}

    async def test_a_failed_member_is_refilled_as_often_as_the_group_allows(self, run: CrewRun) -> None:
        group = await run.ended(walk(STEP, k=1, max_tries=1, refills=2))
        starts = [event for event in await run.events() if isinstance(event, RolloutStarted)]
        assert [event.attempt for event in starts if event.group_id == group.id] == [0, 1, 2]
        assert await run.states(group) == {MemberState.FAILED: 1}

    @pytest.mark.parametrize(
        ("refusing", "reason"),
        [
            (FilterRef("varied"), "filter varied"),
            (FilterRef("mean-reward", {"low": 1.5, "high": 3.0}), "filter mean-reward"),
            (
                FilterRef("test-raising-anywhere"),
                "filter test-raising-anywhere failed: ZeroDivisionError: no variance",
            ),
        ],
        ids=["varied", "bounds", "raising"],
    )
    async def test_a_group_that_a_filter_refuses_is_dropped_and_says_why(
        self, run: CrewRun, refusing: FilterRef, reason: str
    ) -> None:
        group = await run.ended(walk(k=2, filters=(refusing,)))
        dropped = [event for event in await run.events() if isinstance(event, GroupDropped)]
        assert [event.reason for event in dropped if event.group_id == group.id] == [reason]
        assert await run.states(group) == {MemberState.DROPPED: 2}

    async def test_the_same_group_seed_gives_the_same_answers(self, run: CrewRun) -> None:
        answers = [[one.response for one in await run.play(walk(k=3, seed=7))] for _ in range(2)]
        assert answers[0] == answers[1]
        assert len(set(answers[0])) > 1

    async def test_a_group_that_has_ended_can_not_be_cancelled_any_more(self, run: CrewRun) -> None:
        group = await run.ended(walk())
        with pytest.raises(UsageError, match="has ended"):
            await run.manager.cancel(group.id)


class TestPauses:
    @pytest.mark.parametrize("mode", PauseMode)
    @pytest.mark.parametrize("at", [0.0, 0.01, 0.03])
    async def test_a_pause_at_any_time_changes_no_token_of_what_is_said(
        self, run: CrewRun, mode: PauseMode, at: float
    ) -> None:
        undisturbed = await run.play(walk(THREE, k=3, seed=11))
        group = await run.manager.start(walk(THREE, k=3, seed=11))
        await anyio.sleep(at)
        await run.manager.pause(Scope(group_id=group.id), mode)
        await anyio.sleep(0.05)
        await run.manager.resume(Scope(group_id=group.id))
        await group.handed_on.wait()
        assert spoken([group.outcomes[member] for member in range(3)]) == spoken(undisturbed)
        turns = [event.turn for event in await run.events() if isinstance(event, TurnRecorded)]
        assert Finish.ABORT not in {turn.finish for turn in turns}

    @pytest.mark.parametrize(
        ("scope", "held"),
        [
            (Scope(), True),
            (Scope(policy_id=PolicyId("policy")), True),
            (Scope(policy_id=PolicyId("another")), False),
            (Scope(environment_id=EnvironmentId("test/walk-v0")), True),
            (Scope(environment_id=EnvironmentId("test/stroll-v0")), False),
            (Scope(group_id=GroupId("nobody")), False),
        ],
        ids=str,
    )
    async def test_a_scope_holds_its_own_rollouts_alone(self, run: CrewRun, scope: Scope, held: bool) -> None:
        limits = Limits(max_turns=1_000)  # more than it comes to before it is cancelled
        group = await run.manager.start(request("test/walk-v0", task=ENDLESS, k=2, limits=limits))
        await anyio.sleep(0.05)
        await run.manager.pause(scope)
        await anyio.sleep(0.05)
        paused = [event for event in await run.events() if isinstance(event, RolloutPaused)]
        await run.manager.resume(scope)
        await run.manager.cancel(group.id)
        assert any(event.rollout_id.startswith(f"{group.id}-") for event in paused) is held

    async def test_two_pauses_hold_until_both_are_over(self, run: CrewRun) -> None:
        other = Scope(environment_id=EnvironmentId("test/walk-v0"))
        await run.manager.pause()
        await run.manager.pause(other)
        group = await run.manager.start(walk())
        await run.manager.resume()
        with anyio.move_on_after(0.1):
            await group.ended.wait()
        assert not group.ended.is_set()
        await run.manager.resume(other)
        await group.handed_on.wait()

    async def test_what_is_not_paused_can_not_be_resumed(self, run: CrewRun) -> None:
        with pytest.raises(UsageError, match="not paused by an operator; paused: nothing"):
            await run.manager.resume()


def spoken(outcomes: list[Outcome] | tuple[Outcome, ...]) -> list[list[int]]:
    return [outcome.trajectory.rows[0].ids.tolist() for outcome in outcomes]


async def test_what_was_recorded_holds_the_invariants(run: CrewRun) -> None:
    assert not (await verify(run.store)).findings
    assert (await run.members()).drained
