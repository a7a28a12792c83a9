"""Staleness: no more is sampled ahead than can be trained on in time, and nothing that trains is too old."""

from dataclasses import replace

import anyio
import pytest

from envhub.contracts.delivery import Delivery, RunLimits
from envhub.contracts.events import GroupDropped, RolloutPaused
from envhub.contracts.ids import TRAINED, PolicyVersion
from envhub.contracts.members import MemberState
from envhub.contracts.rollout import GroupRequest
from envhub.engines.scripted import ScriptInput
from envhub.errors import UsageError
from envhub.monitor.verify import verify
from envhub.rollouts.iteration import Iteration
from envhub.rollouts.pause import Pauses
from envhub.rollouts.versions import Staleness, trained
from envhub.testing import virtual_time
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts.worlds import ONE, THREE


def step(asked: ScriptInput) -> str:
    return "a step of some tokens"


def walk(task: int = ONE, k: int = 2) -> GroupRequest:
    return replace(request("test/walk-v0", task=task), k=k)


async def announce(run: ScriptedRun, version: int) -> None:
    run.engine.policy_version = PolicyVersion(version)
    await run.manager.announce(TRAINED, PolicyVersion(version))


async def take(run: ScriptedRun) -> Delivery:
    delivery = await run.feed.lease("trainer")
    assert delivery is not None
    return delivery


def versions(delivery: Delivery) -> set[int]:
    return {span.policy_version for outcome in delivery.group.outcomes for span in trained(outcome)}


@pytest.mark.parametrize(("most", "ahead"), [(0, 1), (1, 2), (3, 4)])
def test_no_more_groups_start_than_a_trainer_can_use_in_time(most: int, ahead: int) -> None:
    async def play() -> None:
        async with open_scripted_run(step, lease_s=60, staleness=Staleness(most, step_rollouts=2)) as run:
            started = []

            async def submit() -> None:
                for _ in range(6):
                    started.append(await run.manager.start(walk()))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(submit)
                for version in range(1, 7):
                    await anyio.sleep(100)
                    assert len(started) == min(6, ahead + version - 1)
                    await run.feed.ack((await take(run)).lease_id)
                    await announce(run, version)
            assert (await verify(run.store)).findings == ()

    virtual_time.run(play)


def test_failed_members_make_room_for_others() -> None:
    def broken(asked: ScriptInput) -> str:
        raise ZeroDivisionError

    async def play() -> None:
        async with open_scripted_run(broken, lease_s=60, staleness=Staleness(0, step_rollouts=2)) as run:
            with anyio.fail_after(1000):
                for _ in range(5):
                    await run.manager.start(walk())

    virtual_time.run(play)


def test_a_submission_that_is_given_up_while_it_waits_for_a_version_takes_no_room() -> None:
    async def play() -> None:
        bound = Staleness(0, step_rollouts=2)
        async with open_scripted_run(step, lease_s=60, staleness=bound) as run:
            await run.manager.limit(RunLimits(max_groups=1))
            await run.manager.start(walk())
            with anyio.move_on_after(1) as waiting:
                await run.manager.start(walk())
            assert waiting.cancelled_caught
            await announce(run, 1)
            with anyio.fail_after(10):
                await run.manager.start(walk())

    virtual_time.run(play)


def test_a_group_that_could_never_start_is_refused() -> None:
    async def play() -> None:
        async with open_scripted_run(step, staleness=Staleness(1, step_rollouts=2)) as run:
            await run.manager.start(walk(k=4))
            with pytest.raises(UsageError, match="a group of 5 rollouts could never start"):
                await run.manager.start(walk(k=5))

    virtual_time.run(play)


def test_a_group_too_old_is_dropped_also_when_it_comes_back() -> None:
    async def play() -> None:
        async with open_scripted_run(step, lease_s=60, staleness=Staleness(1, step_rollouts=8)) as run:
            for _ in range(2):
                group = await run.manager.start(walk())
                await group.ended.wait()
            first = await take(run)
            await announce(run, 1)
            second = await take(run)
            await run.feed.ack(second.lease_id)
            await announce(run, 2)
            await run.feed.nack(first.lease_id, "not now")
            await run.manager.finish()
            assert await run.feed.lease("trainer") is None
            reasons = [event.reason for event in await run.events() if isinstance(event, GroupDropped)]
            members = await run.members()
        assert reasons == ["stale"]
        assert (members.of(MemberState.ACKED), members.of(MemberState.DROPPED)) == (2, 2)

    virtual_time.run(play)


@pytest.mark.parametrize(("masks", "left"), [(False, None), (True, {2})])
def test_old_spans_are_masked_or_their_group_is_dropped(masks: bool, left: set[int] | None) -> None:
    async def play() -> None:
        bound = Staleness(0, step_rollouts=8, masks=masks)
        async with open_scripted_run(step, latency_s=10.0, lease_s=60, staleness=bound) as run:
            group = await run.manager.start(walk(THREE, k=1))
            for version in (1, 2):
                await anyio.sleep(10.5)
                await announce(run, version)
            await group.ended.wait()
            await run.manager.finish()
            delivery = await run.feed.lease("trainer")
            assert (delivery and versions(delivery)) == left
            if delivery:
                sampled = [
                    span for row in delivery.group.outcomes[0].trajectory.rows for span in row.spans if span.sampled
                ]
                assert {span.policy_version for span in sampled} == {0, 1, 2}  # they are there, and don't train
                await run.feed.ack(delivery.lease_id)

    virtual_time.run(play)


def test_without_a_bound_nothing_is_too_old() -> None:
    async def play() -> None:
        async with open_scripted_run(step, lease_s=60) as run:
            group = await run.manager.start(walk())
            await group.ended.wait()
            await announce(run, 1000)
            assert versions(await take(run)) == {0}

    virtual_time.run(play)


def test_an_iteration_stops_at_its_token_budget_and_the_next_goes_on_with_the_rest() -> None:
    async def play() -> None:
        bound = Staleness(8, step_rollouts=2)
        async with open_scripted_run(step, latency_s=10.0, lease_s=1e4, staleness=bound, iteration_tokens=40) as run:
            short, long = await run.manager.start(walk()), await run.manager.start(walk(THREE))
            await short.ended.wait()
            await anyio.sleep(1000)
            assert not long.ended.is_set()  # held: the trainer has its step
            assert (await run.members()).of(MemberState.PAUSED) == 2
            await run.feed.ack((await take(run)).lease_id)
            await announce(run, 1)
            await long.ended.wait()
            assert versions(await take(run)) == {0, 1}
            assert any(isinstance(event, RolloutPaused) for event in await run.events())
            assert (await verify(run.store)).findings == ()

    virtual_time.run(play)


def test_a_budget_holds_nobody_while_the_trainer_still_lacks_rollouts() -> None:
    async def play() -> None:
        bound = Staleness(8, step_rollouts=4)
        async with open_scripted_run(step, lease_s=1e4, staleness=bound, iteration_tokens=1) as run:
            with anyio.fail_after(1000):
                for _ in range(2):
                    await (await run.manager.start(walk(THREE))).ended.wait()

    virtual_time.run(play)


@pytest.mark.parametrize("numbers", [(-1, 1), (0, 0)])
def test_bounds_that_cannot_work_are_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="staleness is bounded by"):
        Staleness(*numbers)
    with pytest.raises(UsageError, match="must be at least 1"):
        Iteration(*(max(0, number) for number in numbers), Pauses())
