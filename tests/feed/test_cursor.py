"""A cursor holds what the weights have seen, and a checkpoint with it loses no group and trains on none twice."""

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.ids import LeaseId, RunId
from envhub.errors import UsageError
from envhub.feed.client import Cursor, FeedClient
from envhub.feed.server import serve
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from tests.feed.feeding import fake, ids, in_thread

RUN = RunId("run")


@given(st.lists(st.integers(0, 40)))
def test_cursor_is_the_set_of_what_was_added_in_few_ranges(numbers):
    cursor = Cursor()
    for number in numbers:
        cursor.add(RUN, number)
    cursor = Cursor(json.loads(json.dumps(cursor.as_json())))
    assert [number for number in range(42) if (RUN, number) in cursor] == sorted(set(numbers))
    assert len(cursor) == len(set(numbers))
    ranges = cursor.as_json().get(RUN, [])
    gaps = sum(number + 1 not in numbers for number in set(numbers))
    assert len(ranges) == gaps
    assert (RunId("other"), 0) not in cursor


@pytest.mark.parametrize(
    "ranges", [{"run": [[0]]}, {"run": [["a", "b"]]}, {"run": [[5, 3]]}, {"run": [[0, 4], [2, 6]]}]
)
def test_cursor_of_something_else_is_refused(ranges):
    with pytest.raises(UsageError, match="cursor"):
        Cursor(ranges)


@pytest.mark.anyio
async def test_client_fills_the_cursor_that_it_was_given_an_empty_one_too():
    run, cursor = fake(1), Cursor()

    def train(address: str) -> None:
        with FeedClient(address, consumer="trainer", cursor=cursor) as feed:
            for lease in feed.groups():
                lease.trained()
                feed.ack_trained()

    async with serve(run, run) as address:
        await in_thread(train, address)
    assert len(cursor) == 1


@pytest.mark.anyio
@pytest.mark.timeout(30)
async def test_groups_of_a_checkpoint_are_acked_after_it_and_those_since_come_again():
    """A trainer that checkpoints every second step dies after the third: one group after its checkpoint, which was
    saved, and before the acks of that were said."""
    run = fake(6)
    steps: list[str] = []  # that went into weights which survived

    def train_and_die(address: str) -> dict[str, list[list[int]]]:
        feed = FeedClient(address, consumer="trainer", heartbeat=False)
        leases = feed.groups(credit=2)
        for _ in range(2):
            lease = next(leases)
            steps.append(lease.group_id)
            lease.trained()
        assert feed.ack_trained() == 2
        for _ in range(2):
            lease = next(leases)
            steps.append(lease.group_id)
            lease.trained()
        saved = feed.cursor.as_json()
        next(leases).trained()  # in weights that are lost
        feed._server._connection.drop()
        return saved

    def go_on(address: str, saved) -> None:
        with FeedClient(address, consumer="trainer", cursor=Cursor(saved)) as feed:
            for lease in feed.groups(credit=2):
                steps.append(lease.group_id)
                assert lease.ack()

    async with serve(run, run) as address:
        saved = await in_thread(train_and_die, address)
        assert run.acked == ids(0, 1)
        await run.until(lambda: not run.leased)
        await in_thread(go_on, address, saved)
    assert sorted(steps) == ids(0, 1, 2, 3, 4, 5)
    assert sorted(run.acked) == ids(0, 1, 2, 3, 4, 5)


@pytest.mark.anyio
@pytest.mark.timeout(30)
async def test_group_that_waits_for_its_checkpoint_takes_no_credit_and_renews_its_lease():
    run = fake(3)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups(credit=1)
            first = next(leases)
            first.trained()
            anyio.from_thread.run(run.expire, first.lease_id)  # it comes again, and is not given out twice
            for expected in ids(1, 2):
                lease = next(leases)
                assert lease.group_id == expected
                lease.trained()
            assert feed.ack_trained() == 3

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert sorted(run.acked) == ids(0, 1, 2)


class AsksAll(FakeDeliveries):
    """Answers no ack before three were asked, as a log that is slow to commit; notes what is given back."""

    def __init__(self) -> None:
        super().__init__([closed_group(number) for number in range(3)])
        self.asked, self.all_asked = 0, anyio.Event()
        self.given_back: list[str] = []

    async def ack(self, lease_id: LeaseId) -> bool:
        self.asked += 1
        if self.asked == 3:
            self.all_asked.set()
        await self.all_asked.wait()
        return await super().ack(lease_id)

    async def give_back(self, lease_id: LeaseId) -> None:
        self.given_back.append(lease_id)
        await super().give_back(lease_id)


@pytest.mark.anyio
@pytest.mark.timeout(30)
async def test_acks_of_a_checkpoint_do_not_wait_for_each_other():
    run = AsksAll()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            for lease in feed.fetch(3):
                lease.trained()
            assert feed.ack_trained() == 3

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.acked == ids(0, 1, 2)
    assert not run.given_back
