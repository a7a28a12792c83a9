"""What is unusual is said: each case by one notice, and nothing is lost by it."""

import logging
from functools import partial
from threading import Event

import anyio
import pytest

from envhub.contracts.delivery import NewsKind
from envhub.errors import UsageError
from envhub.feed.client import FeedClient
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from tests.feed.feeding import OPEN, call, converse, fake, ids, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]

Notice = pb.Notice


def settling(**message) -> list[pb.ClientMessage]:
    return [OPEN, pb.ClientMessage(id=2, **message)]


async def test_second_ack_of_a_lease_is_noticed_and_counts_once():
    run = fake(1)
    delivery = await run.lease("trainer")
    ack = pb.Ack(lease_id=delivery.lease_id)
    async with serve(run, run) as address:
        _, first, second = await in_thread(converse, address, [*settling(ack=ack), pb.ClientMessage(id=3, ack=ack)])
    assert (first.done.answers, second.notice.answers) == (2, 3)
    assert second.notice.kind == Notice.KIND_ALREADY_ACKED
    assert run.acked == ids(0)


@pytest.mark.parametrize("kind", ["ack", "nack", "extend"])
async def test_what_comes_too_late_for_a_lease_is_noticed(kind):
    run = fake(1)
    delivery = await run.lease("trainer")
    await run.expire(delivery.lease_id)
    body = {"ack": pb.Ack, "nack": pb.Nack, "extend": pb.Extend}[kind](lease_id=delivery.lease_id)
    async with serve(run, run) as address:
        _, late = await in_thread(converse, address, settling(**{kind: body}))
    assert (late.notice.kind, late.notice.lease_id) == (Notice.KIND_LEASE_LOST, delivery.lease_id)
    assert run.acked == []


async def test_version_announced_backwards_is_noticed_and_changes_nothing():
    run = fake(1)
    versions = [pb.ClientMessage(id=n, version=pb.Version(policy_id="policy", version=n)) for n in (5, 3)]
    async with serve(run, run) as address:
        _, done, refused = await in_thread(converse, address, [OPEN, *versions])
    assert (done.done.answers, refused.notice.answers) == (5, 3)
    assert refused.notice.kind == Notice.KIND_REFUSED
    assert run.versions == {"policy": 5}


async def test_lease_that_runs_out_is_noticed_by_its_holder_alone(caplog):
    run = fake(2)

    def work(address: str) -> None:
        with (
            FeedClient(address, consumer="one") as one,
            FeedClient(address, consumer="two") as two,
        ):
            mine, theirs = next(one.groups(credit=1)), next(two.groups(credit=1))
            anyio.from_thread.run(run.expire, mine.lease_id)
            assert theirs.ack()
            assert not mine.ack()

    with caplog.at_level(logging.WARNING, "envhub.feed"):
        async with serve(run, run) as address:
            await in_thread(work, address)
    assert [record.getMessage() for record in caplog.records if "envhub.feed" in record.name] == [
        "group 'run-0': its lease ran out; the group goes to another delivery"
    ]


@pytest.mark.parametrize(
    ("kind", "told"), [(NewsKind.DEAD_LETTER, Notice.KIND_DEAD_LETTER), (NewsKind.STALE, Notice.KIND_STALE)]
)
async def test_group_that_comes_no_more_is_noticed_by_every_consumer(kind, told):
    run = fake(1)
    heard: dict[str, list[pb.ServerMessage]] = {}

    def listen(address: str, name: str) -> None:
        gone = Event()

        def say():
            yield pb.ClientMessage(open=pb.Open(consumer=name))
            gone.wait(0.4)

        heard[name] = converse(address, say())

    async with serve(run, run) as address, anyio.create_task_group() as tasks:
        for name in ("one", "two"):
            tasks.start_soon(in_thread, listen, address, name)
        await run.until(lambda: len(run.hearers) == 2)
        run.drop(kind)
    for messages in heard.values():
        assert [message.notice.kind for message in messages[1:]] == [told]
        assert (messages[1].notice.group_id, messages[1].notice.answers) == ("run-0", 0)


async def test_second_stream_of_a_consumer_ends_the_first_which_hears_why():
    run = fake(3)

    def work(address: str) -> None:
        first = FeedClient(address, consumer="trainer")
        lease = next(first.groups(credit=1))
        with FeedClient(address, consumer="trainer") as second:
            with pytest.raises(UsageError, match="another stream has opened for consumer 'trainer'"):
                lease.ack()
            assert sorted(lease.group_id for lease in second.groups() if lease.ack()) == ids(0, 1, 2)
        first.close()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert sorted(run.acked) == ids(0, 1, 2)
    assert run.returned[0][0] == "run-0"


async def test_ranks_of_one_consumer_have_a_stream_each_and_whole_groups():
    run = fake(8)

    def work(address: str) -> None:
        with (
            FeedClient(address, consumer="dp", rank=0, ranks=2) as zero,
            FeedClient(address, consumer="dp", rank=1, ranks=2) as one,
        ):
            for _ in range(2):
                step = [feed.fetch(2) for feed in (zero, one)]
                assert [len(leases) for leases in step] == [2, 2]
                assert all(lease.ack() for leases in step for lease in leases)

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert sorted(run.acked) == ids(*range(8))
    assert set(run.consumers) == {"dp/0", "dp/1"}


def test_rank_beyond_the_ranks_is_refused():
    with pytest.raises(UsageError, match="rank is 2 of 2 ranks; ranks count from 0"):
        FeedClient("127.0.0.1:1", consumer="dp", rank=2, ranks=2)


async def test_settling_without_a_stream_answers_each_message():
    run = fake(2)
    first, second = await run.lease("trainer"), await run.lease("trainer")
    request = pb.SettleRequest(
        messages=[
            pb.ClientMessage(id=1, extend=pb.Extend(lease_id=first.lease_id)),
            pb.ClientMessage(id=2, ack=pb.Ack(lease_id=first.lease_id)),
            pb.ClientMessage(id=3, nack=pb.Nack(lease_id=second.lease_id, reason="no")),
            pb.ClientMessage(id=4, ack=pb.Ack(lease_id="none")),
        ]
    )
    async with serve(run, run) as address:
        reply = await in_thread(partial(call, address, "Rollouts", "Settle", request))
    assert [answer.WhichOneof("kind") for answer in reply.answers] == ["done", "done", "done", "notice"]
    assert reply.answers[0].done.deadline > 0
    assert run.acked == ids(0)
    assert run.returned == [(ids(1)[0], "no")]
