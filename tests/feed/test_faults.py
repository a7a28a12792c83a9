"""Faults on the way to a trainer, over a run's own queue and store: conservation holds, nothing is trained twice."""

import os
import re
import signal
import sys
from contextlib import closing, suppress
from pathlib import Path

import anyio
import grpc
import pytest
from grpc._cython import cygrpc

from envhub.contracts.delivery import Delivery
from envhub.contracts.members import MemberState
from envhub.errors import LeaseLost
from envhub.feed import connection, server
from envhub.feed.client import FeedClient
from envhub.feed.server import serve
from envhub.feed.v1 import feed_pb2 as pb
from envhub.feed.v1 import feed_pb2_grpc
from envhub.rollouts.versions import Staleness
from envhub.testing.fake_deliveries import FakeDeliveries, closed_group
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.feed.cut import network
from tests.feed.feeding import consume, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
GROUPS, K = 8, 2


async def started(run: ScriptedRun, groups: int = GROUPS) -> None:
    for _ in range(groups):
        await run.manager.submit(request("envhub/arithmetic-v0", k=K))


async def assert_all_acked(run: ScriptedRun, groups: int = GROUPS) -> None:
    members = await run.members()
    assert members.drained
    assert members.of(MemberState.ACKED) == members.submitted == groups * K


@pytest.mark.parametrize("fault", ["cut", "stall"])
async def test_network_that_is_away_for_longer_than_a_lease_loses_no_group(fault):
    """Scaled: a minute of 60-second leases is a second of these."""
    async with (
        open_scripted_run(lambda asked: "4", lease_s=0.6) as run,
        serve(run.feed, run.manager) as server,
        network(server) as wire,
    ):
        await started(run)
        finished = anyio.create_task_group()

        async def break_and_heal() -> None:
            getattr(wire, fault)()
            await anyio.sleep(1.0)
            wire.heal()

        def work() -> list[str]:
            seen = []
            with FeedClient(wire.address, consumer="trainer") as feed:
                for lease in feed.groups(credit=3):
                    seen.append(lease.group_id)
                    if len(seen) == 3:
                        anyio.from_thread.run_sync(finished.start_soon, break_and_heal)
                    lease.ack()
            return seen

        async with finished:
            finished.start_soon(run.manager.finish)
            seen = await in_thread(work)
        assert len(seen) == len(set(seen)) == GROUPS
        await assert_all_acked(run)


async def test_slow_reader_holds_neither_the_server_nor_others_up():
    """It grants all credit there is and reads nothing: what is sent to it stays within what the network takes."""
    run = FakeDeliveries(closed_group(number, [0.0] * 4, sampled=30_000) for number in range(40))  # 1 MB each

    def idle(address: str, read) -> None:
        with closing(grpc.insecure_channel(address)) as channel:
            said = [
                pb.ClientMessage(open=pb.Open(consumer="slow")),
                pb.ClientMessage(credit=pb.Credit(groups=1_000)),
            ]
            call = feed_pb2_grpc.RolloutsStub(channel).Stream(_then_wait(said, read))
            next(call)
            anyio.from_thread.run(read.wait)
            call.cancel()

    read = anyio.Event()
    async with serve(run, run) as address, anyio.create_task_group() as tasks:
        tasks.start_soon(in_thread, idle, address, read)
        await run.until(lambda: run.consumers)
        with anyio.fail_after(20):
            await run.until(lambda: len(run.leased) >= 2)
            seen = 0

            def work() -> int:
                count = 0
                with FeedClient(address, consumer="quick") as feed:
                    for lease in feed.groups():
                        count += 1
                        assert lease.ack()
                        if count == 25:
                            break
                return count

            seen = await in_thread(work)
        assert seen == 25
        assert run.consumers.count("slow") < 12
        read.set()
    assert len(run.acked) == 25


def _then_wait(said, read):
    yield from said
    with suppress(Exception):
        anyio.from_thread.run(read.wait)


async def test_clock_that_jumps_ends_no_lease_and_keeps_none(monkeypatch: pytest.MonkeyPatch):
    now = 1e9
    async with open_scripted_run(lambda asked: "4", lease_s=0.3) as run:
        monkeypatch.setattr(run.feed._leases, "_clock", lambda: now)
        await started(run, 2)
        kept = await run.feed.lease("trainer")
        assert kept is not None
        assert kept.deadline == pytest.approx(now + 0.3)
        now += 3600
        assert await run.feed.ack(kept.lease_id)
        lost = await run.feed.lease("trainer")
        assert lost is not None
        now -= 7200
        await anyio.sleep(0.4)
        with pytest.raises(LeaseLost):
            await run.feed.ack(lost.lease_id)
        again = await run.feed.lease("trainer")
        assert again is not None
        assert await run.feed.ack(again.lease_id)
        await assert_all_acked(run, 2)


async def test_group_that_is_stale_at_its_redelivery_is_dropped_and_noticed(caplog):
    async with (
        open_scripted_run(lambda asked: "4", lease_s=60, staleness=Staleness(0, step_rollouts=2 * K)) as run,
        serve(run.feed, run.manager) as address,
    ):
        await started(run, 2)

        def work() -> None:
            with FeedClient(address, consumer="trainer") as feed:
                first, second = feed.fetch(2)
                anyio.from_thread.run(run.manager.finish)
                feed.announce(1)
                first.nack("the loss is NaN")
                assert second.ack()  # it was delivered in time
                assert feed.fetch(1) == []

        await in_thread(work)
        members = await run.members()
        assert members.drained
        assert (members.of(MemberState.ACKED), members.of(MemberState.DROPPED)) == (K, K)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("envhub.feed")]
    assert [text.partition(": ")[2] for text in told] == ["its tokens have become older than the bound; it was dropped"]


async def test_nacked_group_goes_to_another_consumer_where_one_waits():
    async with open_scripted_run(lambda asked: "4", lease_s=60) as run:
        await started(run, 1)
        first = await run.feed.lease("one")
        assert first is not None
        taken: list[Delivery | None] = []

        async def wait() -> None:
            taken.append(await run.feed.lease("two"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            await run.feed.nack(first.lease_id, "no")
            with anyio.move_on_after(0.1) as waited:
                await run.feed.lease("one")
            assert waited.cancelled_caught
        assert taken[0] is not None
        assert taken[0].group.group_id == first.group.group_id


async def test_nacked_group_comes_back_where_there_is_no_other_consumer():
    async with open_scripted_run(lambda asked: "4", lease_s=60) as run:
        await started(run, 1)
        first = await run.feed.lease("one")
        assert first is not None
        await run.feed.nack(first.lease_id, "no")
        with anyio.fail_after(30):
            assert (await run.feed.lease("one")) is not None


async def test_heartbeat_keeps_a_lease_through_a_step_longer_than_it():
    async with (
        open_scripted_run(lambda asked: "4", lease_s=0.3) as run,
        serve(run.feed, run.manager) as address,
    ):
        await started(run, 1)

        def work(heartbeat: bool) -> bool:
            with FeedClient(address, consumer="trainer", heartbeat=heartbeat) as feed:
                (lease,) = feed.fetch(1)
                anyio.from_thread.run(anyio.sleep, 0.8)
                return lease.ack()

        assert not await in_thread(work, False)
        assert await in_thread(work, True)
        await assert_all_acked(run, 1)


SERVED = (str(Path(sys.executable).parent / "envhub"), "run", "--engine", "scripted", "--database")


async def test_server_killed_in_the_middle_of_deliveries_loses_no_group_and_its_trainer_waits_for_it(tmp_path):
    database = tmp_path / "envhub.db"
    new = (*SERVED, database, "envhub/arithmetic-v0", "--groups", "10", "--k", "2", "--run-id", "r")
    started_at = anyio.Event()
    address = ""
    seen: list[str] = []

    async def until_served(process) -> str:
        text = b""
        async for chunk in process.stderr:
            text += chunk
            found = re.search(rb"the feed is on (127\.0\.0\.1:\d+)", text)
            if found:
                return found[1].decode()
        raise AssertionError(text.decode())

    def work() -> None:
        with FeedClient(address, consumer="trainer") as feed:
            for lease in feed.groups(credit=4):
                seen.append(lease.group_id)
                if len(seen) == 4:
                    anyio.from_thread.run_sync(started_at.set)
                lease.ack()

    async with await anyio.open_process([*new, "--feed", "127.0.0.1:0"], cwd=ROOT) as first:
        address = await until_served(first)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(in_thread, work)
            await started_at.wait()
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
            resumed = (*SERVED, database, "--resume", "r", "--feed", address)
            result = await anyio.run_process(resumed, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr.decode()
    assert len(seen) == len(set(seen)) == 10
    assert b"20 submitted = 20 acked" in result.stdout + result.stderr


async def test_two_clients_of_one_name_train_on_each_group_once():
    run = FakeDeliveries(closed_group(number) for number in range(6))

    def work(address: str) -> list[str]:
        with FeedClient(address, consumer="trainer") as older:
            lease = next(older.groups(credit=2))
            return [*([lease.group_id] if lease.ack() else []), *consume(address)]

    async with serve(run, run) as address:
        seen = await in_thread(work, address)
    assert sorted(seen) == sorted(run.acked) == [f"run-{number}" for number in range(6)]


@pytest.mark.parametrize("name", [name for name, _ in (*connection.OPTIONS, *server.OPTIONS)])
def test_option_of_a_channel_is_one_that_grpc_knows(name):
    """It ignores others without a word: pings of idle trainers once ended their connections so, after a minute."""
    core = Path(cygrpc.__file__).read_bytes()
    assert name.encode() + b"\0" in core
