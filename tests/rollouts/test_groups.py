"""Groups close when they have enough: all members, the first k of more, or those that were there by the deadline."""

from dataclasses import replace

import pytest

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import GroupClosed, GroupDropped
from envhub.contracts.ids import GroupId, PolicyVersion, RolloutId, RunId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.rollout import FilterRef, GroupRequest
from envhub.contracts.score import Score
from envhub.engines.scripted import ScriptInput
from envhub.errors import UnknownName, UsageError
from envhub.monitor.verify import verify
from envhub.registry import filters
from envhub.rollouts.filters import GroupFilter
from envhub.rollouts.group import RolloutGroup
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.worlds import ENDLESS, HANG, ONE, STEP, THREE

pytestmark = pytest.mark.anyio


def step(asked: ScriptInput) -> str:
    return f"step {asked.seed % 1000}"


def walk(task: int = ONE, **changes: object) -> GroupRequest:
    return replace(request("test/walk-v0", task=task), **changes)  # type: ignore[arg-type]


async def closing(run: ScriptedRun) -> GroupClosed:
    (closed,) = [event for event in await run.events() if isinstance(event, GroupClosed)]
    return closed


async def reasons(run: ScriptedRun) -> list[str]:
    return [event.reason for event in await run.events() if isinstance(event, GroupDropped)]


async def sound(run: ScriptedRun) -> bool:
    return (await verify(run.store)).ok and (await run.members()).drained


def raising() -> GroupFilter:
    def keep(group: ClosedGroup) -> bool:
        raise ZeroDivisionError("no variance")

    return keep


filters.register("test-raising", raising)


async def test_the_first_k_of_more_make_the_group_and_the_rest_is_cancelled() -> None:
    async with open_scripted_run(step, max_running=2) as run:
        outcomes = await run.play(walk(k=2, extra=3))
        members = await run.members()
        closed = await closing(run)
        assert await sound(run)
    assert sum(outcome.score is not None for outcome in outcomes) == 2
    assert len(closed.members) == 2
    assert closed.cut
    assert (members.submitted, members.of(MemberState.ACKED), members.of(MemberState.CANCELLED)) == (5, 2, 3)


async def test_over_sampling_makes_up_for_members_that_fail() -> None:
    def broken_at_first(asked: ScriptInput) -> str:
        if asked.seed % 3 == 0:
            raise ZeroDivisionError
        return "step"

    async with open_scripted_run(broken_at_first) as run:
        await run.play(walk(k=2, extra=6))
        closed = await closing(run)
        assert await sound(run)
    assert len(closed.members) == 2


async def test_the_order_in_which_members_end_decides_which_scores_count() -> None:
    group = RolloutGroup(GroupId("g"), 0, walk(k=2, extra=1))
    for member in (2, 0, 1):
        group.end_member(member, Outcome(RolloutId(f"g-{member}"), Status.COMPLETED, score=Score(1.0)))
    assert group.closed(RunId("run"), PolicyVersion(0)).members == (0, 2)
    assert group.cut


async def test_the_deadline_closes_a_group_with_what_is_there() -> None:
    async with open_scripted_run(step, max_running=4) as run:
        slow = walk(HANG, k=1, deadline_s=0.05)
        assert await run.play(slow) == ()
        members = await run.members()
        closed = await closing(run)
        assert await sound(run)
    assert closed.members == ()
    assert members.of(MemberState.CANCELLED) == 1


async def test_a_group_of_just_min_k_is_handed_on() -> None:
    async with open_scripted_run(step) as run:
        await run.play(walk(k=2, min_k=2))
        assert await reasons(run) == []
        assert (await run.members()).of(MemberState.ACKED) == 2


async def test_a_group_shorter_than_min_k_is_dropped() -> None:
    async with open_scripted_run(step) as run:
        group = await run.manager.start(walk(STEP, k=3, max_tries=1, min_k=2))
        await group.handed_on.wait()
        assert await reasons(run) == []  # nobody scored: there is nothing to drop
        half = replace(walk(THREE, k=2, min_k=2, deadline_s=0.2))
        hang = await run.manager.start(replace(half, rollout=replace(half.rollout, task=walk(ENDLESS).rollout.task)))
        await hang.handed_on.wait()
        assert await sound(run)


async def test_a_mean_reward_within_the_bounds_passes() -> None:
    async with open_scripted_run(step) as run:
        for low, high in ((0.5, 1.5), (1.5, 3.0)):
            bounds = FilterRef("mean-reward", {"low": low, "high": high})
            group = await run.manager.start(walk(k=2, filters=(bounds,)))
            await group.handed_on.wait()
        members = await run.members()
        assert await reasons(run) == ["filter mean-reward"]
    assert (members.of(MemberState.ACKED), members.of(MemberState.DROPPED)) == (2, 2)


async def test_a_filter_that_raises_drops_its_group_and_disturbs_no_other() -> None:
    async with open_scripted_run(step) as run:
        await run.play(walk(k=2, filters=(FilterRef("test-raising"),)))
        await run.play(walk(k=2))
        members = await run.members()
        assert await reasons(run) == ["filter test-raising failed: ZeroDivisionError: no variance"]
        assert await sound(run)
    assert (members.of(MemberState.ACKED), members.of(MemberState.DROPPED)) == (2, 2)


@pytest.mark.parametrize(
    ("reference", "error", "message"),
    [
        (FilterRef("no-such"), UnknownName, "no-such"),
        (FilterRef("mean-reward", {"low": 1.0}), UsageError, "high"),
        (FilterRef("mean-reward", {"low": 1.0, "high": 0.0}), UsageError, "swap"),
    ],
)
async def test_a_filter_that_cannot_be_made_is_refused_before_anything_starts(
    reference: FilterRef, error: type[Exception], message: str
) -> None:
    async with open_scripted_run(step) as run:
        with pytest.raises(error, match=message):
            await run.manager.start(walk(filters=(reference,)))
        assert (await run.members()).submitted == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 0}, "k of a group is 0"),
        ({"max_tries": 0}, "max_tries"),
        ({"extra": -1}, "extra"),
        ({"refills": -1}, "refills"),
        ({"k": 2, "min_k": 3}, "between 1 and k"),
        ({"min_k": 0}, "between 1 and k"),
        ({"deadline_s": 0.0}, "must be positive"),
        ({"deadline_s": -1.0}, "must be positive"),
        ({"deadline_s": float("nan")}, "must be positive"),
    ],
)
def test_numbers_of_a_group_that_cannot_work_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        walk(**changes)


async def test_the_same_group_seed_gives_the_same_answers_in_any_run() -> None:
    answers = []
    for seed in (1, 2):
        async with open_scripted_run(step, seed=seed) as run:
            outcomes = await run.play(walk(k=3, seed=7))
            answers.append([outcome.response for outcome in outcomes])
    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 1
