"""The feed over a run's own queue: what a broken connection does to a group, and what it does not."""

from collections.abc import AsyncIterator

import anyio.to_thread
import pytest

from envhub.contracts.events import Event, GroupAcked, GroupDropped, GroupReturned
from envhub.feed.client import FeedClient
from envhub.feed.server import serve
from envhub.rollouts.deliveries import DeliveryQueue
from envhub.rollouts.recorder import Recorder, open_recorder
from envhub.rollouts.versions import Versions
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

in_thread = anyio.to_thread.run_sync


class Log:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append(self, events: list[Event]) -> None:
        self.events += events

    def kinds(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def recorder(log: Log) -> AsyncIterator[Recorder]:
    async with open_recorder(log) as recorder:  # type: ignore[arg-type]
        yield recorder


async def test_group_whose_trainers_keep_leaving_is_never_a_dead_letter(recorder: Recorder, log: Log):
    queue = DeliveryQueue(recorder, Versions(), max_failed=1)
    await queue.put(closed_group(0))
    queue.close()
    counts = []

    def leave(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            counts.append(next(feed.groups()).count)

    def consume(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            assert [lease.ack() for lease in feed.groups()] == [True]

    async with serve(queue, FakeDeliveries([])) as address:
        for _ in range(3):
            await in_thread(leave, address)
        await in_thread(consume, address)
    assert counts == [1, 2, 3]
    assert [event.reason for event in log.kinds(GroupReturned)] == ["disconnected"] * 3
    assert not log.kinds(GroupDropped)


class LostAnswer(DeliveryQueue):
    """The connection breaks after the first ack is durable, before it is answered."""

    client: FeedClient
    asked = 0

    async def ack(self, lease_id) -> bool:
        self.asked += 1
        first = await super().ack(lease_id)
        if self.asked == 1:
            self.client._server._connection.drop()
        return first


async def test_ack_whose_answer_was_lost_is_known_to_be_done(recorder: Recorder, log: Log):
    queue = LostAnswer(recorder, Versions())
    for number in range(2):
        await queue.put(closed_group(number))
    queue.close()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as queue.client:
            assert [lease.ack() for lease in queue.client.groups(credit=1)] == [True, True]

    async with serve(queue, FakeDeliveries([])) as address:
        await in_thread(work, address)
    assert queue.asked == 3
    assert len(log.kinds(GroupAcked)) == 2
