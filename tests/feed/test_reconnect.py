"""A feed that stops, restarts or is not there, and what its client makes of that."""

from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest

from envhub.contracts.ids import TRAINED, GroupId
from envhub.errors import FeedUnavailable, StoreError
from envhub.feed.client import FeedClient
from envhub.feed.server import check_address, serve
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from tests.feed.feeding import fake, ids, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


class Restartable:
    """A feed that stops and starts again on its port."""

    def __init__(self, run: FakeDeliveries) -> None:
        self._run = run
        self._stack = AsyncExitStack()
        self.address = "127.0.0.1:0"

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *error) -> None:
        await self.stop()

    async def start(self) -> None:
        port = int(self.address.rpartition(":")[2])
        self.address = await self._stack.enter_async_context(serve(self._run, self._run, port=port))

    async def stop(self) -> None:
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.stop()
        await self.start()


async def test_client_comes_back_to_a_server_that_restarts():
    run = fake(5)

    def work(feed: Restartable) -> list[GroupId]:
        seen = []
        with FeedClient(feed.address, consumer="trainer") as client:
            for lease in client.groups(credit=3):
                anyio.from_thread.run(run.until, lambda: len(run.leased) == min(3, 5 - len(run.acked)))
                seen.append(lease.group_id)
                if len(seen) == 2:
                    anyio.from_thread.run(feed.restart)
                assert lease.ack() == (len(seen) != 2)  # the lease that was held went back as the server stopped
        return seen

    async with Restartable(run) as feed:
        seen = await in_thread(work, feed)
    assert sorted(seen) == ids(0, 1, 2, 3, 4)  # the group that was held came again, and was acked unseen
    assert sorted(run.acked) == ids(0, 1, 2, 3, 4)


async def test_client_that_waits_for_a_group_still_waits_after_a_restart():
    run = fake(1)
    other = await run.lease("other")

    def work(feed: Restartable) -> list[GroupId]:
        with FeedClient(feed.address, consumer="trainer") as client:
            return [lease.group_id for lease in client.groups(credit=1) if lease.ack()]

    async def restart_and_release(feed: Restartable) -> None:
        await run.until(lambda: run.waiters == 1)
        await feed.restart()
        await run.until(lambda: run.waiters == 1)
        await run.expire(other.lease_id)

    async with Restartable(run) as feed, anyio.create_task_group() as tasks:
        tasks.start_soon(restart_and_release, feed)
        assert await in_thread(work, feed) == ids(0)


class SlowAcks(FakeDeliveries):
    """Acks wait until they are let go."""

    def __init__(self, groups) -> None:
        super().__init__(groups)
        self.asked, self.let_go = anyio.Event(), anyio.Event()

    async def ack(self, lease_id) -> None:
        self.asked.set()
        await self.let_go.wait()
        await super().ack(lease_id)


async def test_ack_that_is_under_way_when_the_server_stops_is_answered():
    run = SlowAcks([closed_group(0), closed_group(1)])

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer", reconnect_s=0.1) as feed:
            assert next(feed.groups(credit=1)).ack()

    async def let_go() -> None:
        await anyio.wait_all_tasks_blocked()
        run.let_go.set()

    async with anyio.create_task_group() as tasks, serve(run, run) as address:
        tasks.start_soon(in_thread, work, address)
        await run.asked.wait()
        tasks.start_soon(let_go)
    assert run.acked == ids(0)


class LostState(FakeDeliveries):
    """Its store fails."""

    async def state(self):
        raise StoreError("the disk is full")


async def test_port_is_free_after_a_stop_whose_store_failed():
    run = LostState([closed_group(0)])
    broke = anyio.Event()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer", reconnect_s=0.1) as feed:
            lease = next(feed.groups(credit=1))
            anyio.from_thread.run_sync(broke.set)
            with pytest.raises(FeedUnavailable):
                lease.ack()

    async with anyio.create_task_group() as tasks:
        with anyio.fail_after(30), pytest.raises(StoreError):
            async with serve(run, run) as address:
                tasks.start_soon(in_thread, work, address)
                await broke.wait()
        check_address("127.0.0.1", int(address.rpartition(":")[2]))


async def test_last_words_of_a_trainer_are_heard_by_a_feed_that_stops_once_the_run_is_drained():
    run = fake(1)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer", reconnect_s=0.2) as feed:
            leases = feed.groups(credit=1)
            assert next(leases).ack()  # the feed stops now
            feed.announce(1)
            assert next(leases, None) is None

    async with anyio.create_task_group() as tasks, serve(run, run) as address:
        tasks.start_soon(in_thread, work, address)
        await run.until(lambda: run.acked)
    assert run.versions == {TRAINED: 1}


async def test_trainer_that_lingers_after_the_run_is_drained_hears_its_end(monkeypatch):
    monkeypatch.setattr("envhub.feed.rollouts_service.LEAVE_S", 0.05)
    run = fake(1)
    gone = anyio.Event()

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups(credit=1)
            assert next(leases).ack()
            anyio.from_thread.run(gone.wait)
            feed.announce(1)
            assert next(leases, None) is None

    async with anyio.create_task_group() as tasks:
        async with serve(run, run) as address:
            tasks.start_soon(in_thread, work, address)
            await run.until(lambda: run.acked)
        gone.set()
    assert run.versions == {}


async def test_absent_feed_is_a_clear_error_once_the_time_for_it_is_over():
    with pytest.raises(FeedUnavailable, match=r"no feed answers at 127\.0\.0\.1:1 for 0\.1 s .*UNAVAILABLE"):
        await in_thread(partial(FeedClient, "127.0.0.1:1", consumer="trainer", reconnect_s=0.1))


async def test_feed_that_goes_away_for_good_is_a_clear_error():
    run = fake(2)

    def work(address: str, stop) -> None:
        with FeedClient(address, consumer="trainer", reconnect_s=0.3) as feed:
            lease = next(feed.groups())
            anyio.from_thread.run(stop)
            with pytest.raises(FeedUnavailable):
                lease.ack()

    stopping = anyio.Event()

    async def stop() -> None:
        stopping.set()

    async with anyio.create_task_group() as tasks, serve(run, run) as address:
        tasks.start_soon(in_thread, work, address, stop)
        await stopping.wait()
