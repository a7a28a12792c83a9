"""Groups are delivered at least once, under one lease at a time, and leave as acked or as a dead letter."""

from collections.abc import AsyncIterator

import anyio
import pytest

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.events import Event, GroupAcked, GroupDropped, GroupLeased, GroupReturned
from envhub.contracts.ids import EnvironmentId, GroupId, LeaseId, PolicyVersion, RunId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.task import Task
from envhub.errors import LeaseLost
from envhub.rollouts.deliveries import FAULTLESS, DeliveryQueue
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.versions import Versions

pytestmark = pytest.mark.anyio
LEASE_S = 60.0
REQUEST = GroupRequest(RolloutRequest(EnvironmentRef(EnvironmentId("test/none-v0")), Task.ask("?")), k=1)


class Log:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append(self, events: list[Event]) -> None:
        self.events += events


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def recorder(log: Log) -> AsyncIterator[Recorder]:
    async with open_recorder(log) as recorder:  # type: ignore[arg-type]
        yield recorder


@pytest.fixture
def queue(recorder: Recorder, clock: Clock) -> DeliveryQueue:
    return DeliveryQueue(recorder, Versions(), lease_s=LEASE_S, max_failed=2, max_ready=2, clock=clock, timer=clock)


def group(number: int) -> ClosedGroup:
    return ClosedGroup(RunId("run"), GroupId(f"run-{number}"), number, REQUEST, (), (), PolicyVersion(0))


async def leased(queue: DeliveryQueue, consumer: str = "trainer") -> Delivery:
    with anyio.fail_after(30):
        delivery = await queue.lease(consumer)
    assert delivery is not None
    return delivery


async def test_an_acked_group_is_never_delivered_again(queue: DeliveryQueue, log: Log) -> None:
    await queue.put(group(0))
    delivery = await leased(queue)
    await queue.ack(delivery.lease_id)
    queue.close()
    assert await queue.lease("trainer") is None
    assert [type(event) for event in log.events] == [GroupLeased, GroupAcked]


async def test_an_expired_lease_goes_to_the_next_consumer(queue: DeliveryQueue, clock: Clock) -> None:
    await queue.put(group(0))
    first = await leased(queue, "one")
    clock.now = LEASE_S
    queue.expire_now()
    second = await leased(queue, "two")
    assert second.group is first.group
    assert (first.count, second.count) == (1, 2)
    assert second.lease_id != first.lease_id
    with pytest.raises(LeaseLost):
        await queue.ack(first.lease_id)
    await queue.ack(second.lease_id)


async def test_an_ack_after_the_deadline_is_refused_even_before_the_lease_is_returned(
    queue: DeliveryQueue, clock: Clock
) -> None:
    await queue.put(group(0))
    delivery = await leased(queue)
    clock.now = LEASE_S
    with pytest.raises(LeaseLost, match="has expired or was returned"):
        await queue.ack(delivery.lease_id)


async def test_a_heartbeat_keeps_a_lease(queue: DeliveryQueue, clock: Clock) -> None:
    await queue.put(group(0))
    delivery = await leased(queue)
    clock.now = LEASE_S - 1
    assert await queue.extend(delivery.lease_id) == clock.now + LEASE_S
    clock.now = LEASE_S + 1
    queue.expire_now()
    await queue.ack(delivery.lease_id)


async def test_too_many_failed_deliveries_make_a_dead_letter(queue: DeliveryQueue, log: Log) -> None:
    await queue.put(group(0))
    for _ in range(2):
        await queue.nack((await leased(queue)).lease_id, "no")
    queue.close()
    assert await queue.lease("trainer") is None
    assert [event.reason for event in log.events if isinstance(event, GroupReturned)] == ["no", "no"]
    assert [event.reason for event in log.events if isinstance(event, GroupDropped)] == ["dead_letter"]


async def test_an_expired_lease_counts_as_a_nack_does(queue: DeliveryQueue, clock: Clock, log: Log) -> None:
    await queue.put(group(0))
    await queue.nack((await leased(queue)).lease_id, "no")
    await leased(queue)
    clock.now = LEASE_S
    queue.expire_now()
    queue.close()
    assert await queue.lease("trainer") is None
    assert queue.over


async def test_shutdowns_and_lost_consumers_never_make_a_dead_letter(queue: DeliveryQueue, log: Log) -> None:
    await queue.put(group(0))
    for _ in range(3):
        await queue.give_back((await leased(queue)).lease_id)
        await leased(queue)
        queue.return_all("shutdown")
    delivery = await leased(queue)
    assert delivery.count == 7
    await queue.nack(delivery.lease_id, "no")  # the first that counts, of two
    await queue.ack((await leased(queue)).lease_id)
    assert not [event for event in log.events if isinstance(event, GroupDropped)]


@pytest.mark.parametrize("reason", sorted(FAULTLESS))
async def test_a_nack_counts_whatever_its_words_and_the_log_tells_it_apart(
    queue: DeliveryQueue, log: Log, reason: str
) -> None:
    await queue.put(group(0))
    for _ in range(2):
        await queue.nack((await leased(queue)).lease_id, reason)
    reasons = [event.reason for event in log.events if isinstance(event, GroupReturned)]
    assert reasons == [f"nack: {reason}"] * 2
    assert isinstance(log.events[-1], GroupDropped)


async def test_an_ack_asked_again_is_answered_as_the_first_was(queue: DeliveryQueue, log: Log, clock: Clock) -> None:
    await queue.put(group(0))
    delivery = await leased(queue)
    await queue.ack(delivery.lease_id)
    clock.now = LEASE_S
    await queue.ack(delivery.lease_id)
    assert [type(event) for event in log.events] == [GroupLeased, GroupAcked]
    for answer in (queue.nack(delivery.lease_id, "no"), queue.give_back(delivery.lease_id)):
        with pytest.raises(LeaseLost):
            await answer


async def test_only_the_last_acks_are_remembered(recorder: Recorder) -> None:
    queue = DeliveryQueue(recorder, Versions(), max_remembered=1)
    for number in range(2):
        await queue.put(group(number))
    deliveries = [await leased(queue) for _ in range(2)]
    for delivery in deliveries:
        await queue.ack(delivery.lease_id)
    await queue.ack(deliveries[1].lease_id)
    with pytest.raises(LeaseLost):
        await queue.ack(deliveries[0].lease_id)


async def test_an_unknown_lease_is_lost(queue: DeliveryQueue) -> None:
    for answer in (queue.ack(LeaseId("?")), queue.nack(LeaseId("?"), ""), queue.extend(LeaseId("?"))):
        with pytest.raises(LeaseLost):
            await answer


async def test_a_full_queue_makes_the_manager_wait(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    await queue.put(group(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.put, group(2))
        await anyio.wait_all_tasks_blocked()
        numbers = [(await leased(queue)).group.number for _ in range(3)]
    assert numbers == [0, 1, 2]


async def test_the_end_waits_for_leases_that_may_come_back(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    delivery = await leased(queue, "one")
    queue.close()
    ends: list[Delivery | None] = []

    async def wait() -> None:
        ends.append(await queue.lease("two"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not ends
        await queue.nack(delivery.lease_id, "no")
    assert ends[0] is not None


async def test_cancelling_a_waiting_consumer_loses_no_group(queue: DeliveryQueue) -> None:
    with anyio.move_on_after(0):
        await queue.lease("one")
    await queue.put(group(0))
    assert (await leased(queue, "two")).group.number == 0


async def test_a_group_of_an_earlier_process_keeps_its_count(queue: DeliveryQueue) -> None:
    await queue.put(group(0), deliveries=1)
    assert (await leased(queue)).count == 2


async def test_failures_in_an_earlier_process_count(queue: DeliveryQueue, log: Log) -> None:
    await queue.put(group(0), deliveries=7, failed=1)
    await queue.nack((await leased(queue)).lease_id, "no")
    assert isinstance(log.events[-1], GroupDropped)


async def test_who_holds_all_that_is_left_is_told_to_settle_it(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    delivery = await leased(queue)
    queue.close()
    with anyio.fail_after(30):
        assert await queue.lease("trainer") is None
    await queue.ack(delivery.lease_id)
    assert queue.over


async def test_consumers_that_wait_for_each_other_are_told_to_settle_what_they_hold(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    await queue.put(group(1))
    await leased(queue, "one")
    await leased(queue, "two")
    queue.close()
    ends: list[Delivery | None] = []

    async def wait(consumer: str) -> None:
        ends.append(await queue.lease(consumer))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, "one")
            await anyio.wait_all_tasks_blocked()
            assert not ends  # the other is still at work, and its group may come back
            tasks.start_soon(wait, "two")
    assert ends == [None, None]
