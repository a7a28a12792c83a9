"""A server sends what credits allow, in groups, tokens and bytes, and a client says where that can never be enough."""

from threading import Event

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.delivery import Delivery
from envhub.contracts.ids import LeaseId
from envhub.errors import UsageError
from envhub.feed.allowance import Allowance, Cost, most_bytes
from envhub.feed.client import FeedClient
from envhub.feed.encoding import delivery_pieces, encode_group, tokens_of
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from tests.feed.feeding import OPEN, consume, converse, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

SIZES = (4, 400, 40, 4_000, 1, 40)  # sampled tokens of a member


def sized() -> FakeDeliveries:
    return FakeDeliveries(closed_group(number, sampled=size) for number, size in enumerate(SIZES))


class Metered(FakeDeliveries):
    """Notes the most tokens that were leased at once."""

    most_tokens = 0

    async def lease(self, consumer, admits=lambda group: True):
        delivery = await super().lease(consumer, admits)
        self.most_tokens = max(self.most_tokens, sum(map(tokens_of, self.leased.values())))
        return delivery


async def test_tokens_on_their_way_or_unsettled_stay_within_the_credit():
    run = Metered(closed_group(number, sampled=4 + 7 * (number % 5)) for number in range(20))

    def work(address: str) -> list[str]:
        with FeedClient(address, consumer="trainer") as feed:
            return [lease.group_id for lease in feed.groups(credit=20, max_tokens=100) if lease.ack()]

    async with serve(run, run) as address:
        assert len(await in_thread(work, address)) == 20
    assert 50 < run.most_tokens <= 100


async def test_bytes_bound_what_is_sent_as_groups_and_tokens_do():
    run = sized()
    group = closed_group(3, sampled=4_000)
    largest = most_bytes(group, len(encode_group(group)))

    def work(address: str) -> list[str]:
        with FeedClient(address, consumer="trainer") as feed:
            return [lease.group_id for lease in feed.groups(credit=6, max_bytes=largest) if lease.ack()]

    async with serve(run, run) as address:
        assert len(await in_thread(work, address)) == len(SIZES)


async def test_group_larger_than_all_of_the_credit_is_an_error_and_goes_to_a_consumer_with_more():
    run = sized()

    def work(address: str) -> None:
        with FeedClient(address, consumer="small") as feed:
            leases = feed.groups(max_tokens=500)
            assert next(leases).ack()
            with pytest.raises(UsageError, match=r"group 'run-1' has 806 tokens in .* more than the whole credit"):
                next(leases)

    async with serve(run, run) as address:
        await in_thread(work, address)
        assert len(await in_thread(consume, address)) == len(SIZES) - 1


async def test_credit_that_is_held_is_an_error_instead_of_a_wait_for_ever():
    run = sized()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups(max_tokens=810)
            held = next(leases)
            with pytest.raises(UsageError, match="group 'run-1' needs credit that is held unsettled"):
                next(leases)
            assert held.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)


async def test_client_can_not_begin_to_count_tokens_once_the_server_sends_without():
    run = sized()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            assert next(feed.groups()).ack()
            with pytest.raises(UsageError, match="whether the credit counts tokens or bytes can't change"):
                feed.groups(max_tokens=100)

    async with serve(run, run) as address:
        await in_thread(work, address)


async def test_short_of_credit_is_told_with_what_is_needed_and_ends_with_more():
    run = sized()
    said = iter([OPEN, pb.ClientMessage(credit=pb.Credit(groups=2, tokens=20))])
    grant, delivered, heard = Event(), Event(), []

    def messages():
        yield from said
        assert grant.wait(10)
        yield pb.ClientMessage(credit=pb.Credit(tokens=1_000))
        assert delivered.wait(10)

    def work(address: str) -> None:
        heard.extend(converse(address, messages()))

    async with serve(run, run) as address, anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, work, address)
        await run.until(lambda: run.consumers)
        await anyio.wait_all_tasks_blocked()
        assert len(run.consumers) == 1
        grant.set()
        await run.until(lambda: len(run.consumers) == 2)
        await anyio.wait_all_tasks_blocked()
        delivered.set()
    kinds = [message.WhichOneof("kind") for message in heard]
    assert kinds == ["done", "delivery", "notice", "delivery"]
    assert heard[2].notice.kind == pb.Notice.KIND_SHORT_OF_CREDIT
    assert (heard[2].notice.group_id, heard[2].notice.tokens) == ("run-1", 806)


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 99), st.integers(0, 99))),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_what_is_sent_never_exceeds_the_sum_of_the_credits(credits, tokens, size):
    allowance, sent = Allowance(), 0
    granted = [0, 0, 0]
    for credit in credits:
        allowance.grant(pb.Credit(groups=credit[0], tokens=credit[1], bytes=credit[2]))
        granted = [have + more for have, more in zip(granted, credit, strict=True)]
        while allowance.groups and allowance.covers(Cost(tokens, size)):
            allowance.spend(Cost(tokens, size))
            sent += 1
        bounds = [have // each for have, each in zip(granted, (1, tokens, size), strict=True) if each]
        assert sent == min(bounds)


def test_most_bytes_is_more_than_the_delivery_has():
    group = closed_group(7, [0.5] * 8, sampled=999)
    delivery = Delivery(LeaseId(f"{group.group_id}@{2**31}"), group, 2**31, 1e10, 1e6)
    assert delivery_pieces(delivery).size <= most_bytes(group, len(encode_group(group)))


@pytest.mark.parametrize(("groups", "tokens"), [(1025, None), (1025, 5), (0, None)])
def test_credit_out_of_range_is_refused(groups, tokens):
    with pytest.raises(UsageError, match=f"a Credit grants {groups} groups; it must grant 1 to 1024"):
        Allowance().grant(pb.Credit(groups=groups, tokens=tokens))
