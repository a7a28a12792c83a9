"""Groups are delivered at least once, under one lease at a time, and leave as acked or as a dead letter."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import anyio
import pytest

from envhub.contracts.delivery import ClosedGroup, Delivery
from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupClosed,
    GroupDropped,
    GroupLeased,
    GroupReturned,
    GroupSubmitted,
)
from envhub.contracts.ids import EnvironmentId, GroupId, LeaseId, PolicyVersion, RolloutId, RunId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.task import Task
from envhub.errors import LeaseLost
from envhub.rollouts.deliveries import DeliveryQueue, open_deliveries
from envhub.rollouts.leases import FAULTLESS
from envhub.rollouts.ready_line import READ_AHEAD
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.stored_group import StoredGroup
from envhub.rollouts.versions import Staleness, Versions

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


async def test_who_was_cut_off_may_have_the_same_group_again_whoever_else_is_at_work(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    await queue.put(group(1))
    cut_off, _ = await leased(queue, "one"), await leased(queue, "two")
    await queue.give_back(cut_off.lease_id)
    assert (await leased(queue, "one")).group is cut_off.group


async def test_a_dead_letter_makes_room_for_another_group(recorder: Recorder) -> None:
    versions = Versions(bound=Staleness(0, step_rollouts=1))
    queue = DeliveryQueue(recorder, versions, max_failed=1)
    versions.take(REQUEST)
    await queue.put(replace(group(0), members=(0,)))
    await queue.nack((await leased(queue)).lease_id, "no")
    with anyio.fail_after(30):
        await versions.admit(REQUEST)


async def test_at_the_end_of_a_run_what_is_out_is_returned(recorder: Recorder, log: Log) -> None:
    async with open_deliveries(recorder, Versions(), lease_s=LEASE_S) as queue:
        await queue.put(group(0))
        await leased(queue)
    await recorder.flush()
    assert [event.reason for event in log.events if isinstance(event, GroupReturned)] == ["shutdown"]


async def test_a_consumer_gets_no_group_that_it_does_not_admit(queue: DeliveryQueue) -> None:
    await queue.put(group(0))
    with anyio.move_on_after(0.05) as waiting:
        await queue.lease("one", lambda group: False)
    assert waiting.cancelled_caught
    assert (await leased(queue, "two")).count == 1


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


async def test_a_lease_of_a_process_that_died_is_none_of_the_next_one(queue: DeliveryQueue, recorder: Recorder) -> None:
    await queue.put(group(0))
    lost = await leased(queue)  # which no log may have
    later = DeliveryQueue(recorder, Versions())
    await later.put(group(0))
    again = await leased(later)
    assert again.count == lost.count
    with pytest.raises(LeaseLost):
        await later.ack(lost.lease_id)
    assert await later.ack(again.lease_id)


async def test_a_group_goes_out_without_a_wait_for_the_log() -> None:
    unopened = Recorder(Log())  # type: ignore[arg-type]  # so that it writes nothing
    queue = DeliveryQueue(unopened, Versions())
    await queue.put(group(0))
    delivery = await leased(queue)
    with anyio.move_on_after(0.05) as waiting:
        await queue.ack(delivery.lease_id)
    assert waiting.cancelled_caught  # an ack counts once the log has it


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
        assert queue.standing.ready == 2
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


class Shelf:
    """A store in which every group has the one rollout that an event stands for; it notes what is read."""

    def __init__(self) -> None:
        self.read: list[RolloutId] = []

    async def events_of(self, run_id: RunId, ids: Sequence[RolloutId], kinds: object) -> list[Event]:
        self.read += ids
        return []


def stored(number: int, shelf: Shelf, *, deliveries: int = 0, failed: int = 0) -> StoredGroup:
    id = GroupId(f"run-{number}")
    submitted = GroupSubmitted(RunId("run"), 0.0, id, number, REQUEST)
    closing = GroupClosed(RunId("run"), 0.0, id, (), PolicyVersion(0))
    return StoredGroup(shelf, submitted, closing, [RolloutId(f"run-{number}-0-0")], deliveries, failed)  # type: ignore[arg-type]


async def test_a_group_of_an_earlier_process_keeps_its_count(recorder: Recorder) -> None:
    async with open_deliveries(recorder, Versions(), lease_s=LEASE_S) as queue:
        await queue.put_stored(stored(0, Shelf(), deliveries=1))
        assert (await leased(queue)).count == 2


async def test_failures_in_an_earlier_process_count(recorder: Recorder, log: Log) -> None:
    async with open_deliveries(recorder, Versions(), lease_s=LEASE_S) as queue:
        await queue.put_stored(stored(0, Shelf(), deliveries=7, failed=4))
        await queue.nack((await leased(queue)).lease_id, "no")
    assert isinstance(log.events[-1], GroupDropped)


async def test_groups_of_an_earlier_process_are_read_a_few_at_a_time_as_their_turn_comes(recorder: Recorder) -> None:
    shelf, many = Shelf(), 3 * READ_AHEAD
    async with open_deliveries(recorder, Versions(), lease_s=LEASE_S) as queue:
        for number in range(many):
            await queue.put_stored(stored(number, shelf))
        await queue.put(group(many))
        for number in range(many + 1):
            assert (await leased(queue)).group.number == number
            assert len(shelf.read) <= number + 1 + READ_AHEAD
    assert shelf.read == [f"run-{number}-0-0" for number in range(many)]


async def test_who_refused_all_that_is_read_gets_one_that_is_in_the_store_still(recorder: Recorder) -> None:
    async with open_deliveries(recorder, Versions(), lease_s=LEASE_S) as queue:
        for number in range(READ_AHEAD + 1):
            await queue.put(group(number))
        held = await leased(queue, "other")  # which is at work, and would take what the first one refuses
        for _ in range(READ_AHEAD):
            await queue.nack((await leased(queue, "one")).lease_id, "no")
        await queue.put_stored(stored(READ_AHEAD + 1, Shelf()))
        assert (await leased(queue, "one")).group.number == READ_AHEAD + 1
        assert held.group.number == 0


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
