"""A run's control over its feed: by an operator in another process."""

import threading

import anyio
import pytest

from envhub.contracts.delivery import RunLimits
from envhub.contracts.ids import PolicyId
from envhub.contracts.members import MemberState
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import FeedUnavailable, UsageError
from envhub.feed.remote_control import RemoteControl
from envhub.feed.server import serve
from envhub.testing.runs import open_scripted_run, request
from tests.feed.feeding import fake, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def test_every_order_reaches_the_run_with_its_scope():
    run = fake(1)
    policy = Scope(policy_id=PolicyId("policy"))

    def work(address: str) -> None:
        with RemoteControl(address) as control:
            control.pause(policy, PauseMode.KEEP)
            assert run.paused == {policy: PauseMode.KEEP}
            with pytest.raises(UsageError, match="that scope is paused"):
                control.pause(policy)
            control.resume(policy)
            control.abort(policy)
            control.limit(RunLimits(max_groups=3))
            assert control.state().limits == RunLimits(max_groups=3)
            control.drain()
            assert control.state().draining

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.paused == {}
    assert run.aborted == [policy]


async def test_watch_tells_of_each_change_until_the_feed_stops():
    run = fake(2)
    seen: list[int] = []
    first, second = threading.Event(), threading.Event()

    def work(address: str) -> None:
        with RemoteControl(address) as control:
            for state in control.watch(every_s=0.1):
                seen.append(state.members.of(MemberState.ACKED))
                (first if len(seen) == 1 else second).set()

    async with anyio.create_task_group() as tasks, serve(run, run) as address:
        tasks.start_soon(in_thread, work, address)
        await in_thread(first.wait)
        delivery = await run.lease("trainer")
        await run.ack(delivery.lease_id)
        await in_thread(second.wait)
    assert seen == [0, 2]


@pytest.mark.parametrize(
    ("order", "rule"),
    [
        (lambda control: control.limit(RunLimits(max_running=0)), "max_running is 0; it must be at least 1"),
        (lambda control: next(control.watch(0.01)), "it must be 0.1 to 60"),
        (lambda control: control.resume(), "that scope is not paused"),
    ],
)
async def test_order_that_can_not_be_is_refused_with_the_rule(order, rule):
    run = fake(1)

    def work(address: str) -> None:
        with RemoteControl(address) as control, pytest.raises(UsageError, match=rule):
            order(control)

    async with serve(run, run) as address:
        await in_thread(work, address)


def test_feed_that_is_not_there_is_a_clear_error():
    with RemoteControl("127.0.0.1:1") as control, pytest.raises(FeedUnavailable, match="did not answer"):
        control.state()


async def test_drained_run_takes_no_more_groups_and_ends_those_that_it_has():
    async with open_scripted_run(lambda asked: "4", lease_s=60) as run:
        await run.manager.submit(request("envhub/arithmetic-v0", k=2))
        await run.manager.drain()
        assert (await run.manager.state()).draining
        with pytest.raises(UsageError, match="draining"):
            await run.manager.submit(request("envhub/arithmetic-v0", k=2))
        delivery = await run.feed.lease("trainer")
        assert delivery is not None
        await run.feed.ack(delivery.lease_id)
        assert run.feed.over


async def test_submission_that_waits_for_room_is_refused_once_the_run_drains():
    async with open_scripted_run(lambda asked: "4", lease_s=60) as run:
        await run.manager.limit(RunLimits(max_groups=1))
        await run.manager.pause()
        await run.manager.submit(request("envhub/arithmetic-v0"))
        refused = anyio.Event()

        async def wait_for_room() -> None:
            with pytest.raises(UsageError, match="draining"):
                await run.manager.submit(request("envhub/arithmetic-v0"))
            refused.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_room)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(run.manager.drain)
            await refused.wait()
            await run.manager.resume()
        assert (await run.manager.state()).members.submitted == 1


async def test_limits_change_how_much_runs_at_once():
    running: list[int] = []

    async with open_scripted_run(lambda asked: "4", max_running=1, latency_s=0.01, lease_s=60) as run:

        def measured() -> int:
            return run.slots.limit - run.slots.free

        await run.manager.limit(RunLimits(max_running=3))
        group = await run.manager.start(request("envhub/arithmetic-v0", k=6))
        while not group.ended.is_set():
            running.append(measured())
            await anyio.sleep(0.002)
        assert max(running) == 3
        await run.manager.limit(RunLimits(max_running=1))
        group = await run.manager.start(request("envhub/arithmetic-v0", k=4))
        running.clear()
        while not group.ended.is_set():
            running.append(measured())
            await anyio.sleep(0.002)
        assert max(running) == 1
        assert (await run.manager.state()).limits == RunLimits(1_000, 1)
