"""The real server and the real client over a socket, in one process: the client in a thread."""

import anyio
import numpy as np
import pytest

from envhub.contracts.ids import TRAINED, GroupId
from envhub.errors import LeaseLost, UpdateFailed, UsageError
from envhub.feed.client import FeedClient
from envhub.feed.server import serve
from envhub.testing.fake_deliveries import BROKEN, FakeDeliveries, closed_group
from tests.feed.feeding import consume, fake, ids, in_thread

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(30)]


async def test_every_group_is_delivered_acked_and_then_the_stream_ends():
    run = fake(5)
    async with serve(run, run) as address:
        assert await in_thread(consume, address) == ids(0, 1, 2, 3, 4)
    assert run.acked == ids(0, 1, 2, 3, 4)
    assert run.returned == []
    assert set(run.consumers) == {"trainer"}


async def test_credit_caps_what_is_unsettled_and_fills_up_while_the_trainer_computes():
    run = fake(9)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            for lease in feed.groups(credit=3):
                anyio.from_thread.run(run.until, lambda: len(run.leased) == min(3, 9 - len(run.acked)))
                lease.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.most_leased == 3
    assert len(run.acked) == 9


async def test_holding_all_the_credit_unsettled_is_an_error_instead_of_a_wait_for_ever():
    run = fake(3)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups(credit=2)
            held = [next(leases), next(leases)]
            with pytest.raises(UsageError, match="all 2 groups of the credit are held unsettled"):
                next(leases)
            assert all(lease.ack() for lease in held)

    async with serve(run, run) as address:
        await in_thread(work, address)


async def test_nacked_group_comes_again_under_a_new_lease():
    run = fake(1)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups()
            first = next(leases)
            first.nack("NaN in the loss")
            second = next(leases)
            assert second.group_id == first.group_id
            assert second.lease_id != first.lease_id
            assert (first.count, second.count) == (1, 2)
            assert second.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.returned == [(ids(0)[0], "NaN in the loss")]
    assert run.acked == ids(0)


async def test_ack_of_an_expired_lease_says_so_and_the_group_is_not_trained_on_twice():
    run = fake(2)

    def work(address: str) -> list[GroupId]:
        seen = []
        with FeedClient(address, consumer="trainer") as feed:
            for lease in feed.groups(credit=1):
                seen.append(lease.group_id)
                if len(seen) == 1:
                    anyio.from_thread.run(run.expire, lease.lease_id)
                    assert not lease.ack()
                else:
                    assert lease.ack()
        return seen

    async with serve(run, run) as address:
        assert await in_thread(work, address) == ids(0, 1)
    assert sorted(run.acked) == ids(0, 1)  # the redelivery of the first was acked unseen


async def test_group_that_comes_again_while_it_is_held_renews_its_lease_instead_of_making_a_second_copy():
    run = fake(4)

    def work(address: str) -> list[GroupId]:
        with FeedClient(address, consumer="trainer") as feed:
            leases = feed.groups(credit=2)
            held = next(leases)
            anyio.from_thread.run(run.expire, held.lease_id)
            others = []
            for _ in range(3):
                others.append(next(leases))
                assert others[-1].ack()
            assert (held.lease_id, held.count) == ("run-0/2", 2)
            assert held.ack()
            return [lease.group_id for lease in (*others, *leases)]

    async with serve(run, run) as address:
        assert await in_thread(work, address) == ids(1, 2, 3)
    assert run.acked == ids(1, 2, 3, 0)


async def test_extend_moves_the_deadline_and_tells_of_a_lost_lease():
    run = fake(1)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            lease = next(feed.groups())
            before = lease.deadline
            assert lease.extend() == lease.deadline > before
            anyio.from_thread.run(run.expire, lease.lease_id)
            with pytest.raises(LeaseLost, match="lease 'run-0/1' expired"):
                lease.extend()

    async with serve(run, run) as address:
        await in_thread(work, address)


async def test_versions_are_announced_while_a_lease_is_waited_for_and_never_go_back():
    run = fake(1)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            lease = next(feed.groups(credit=4))  # the server waits for another group now
            feed.announce(3)
            feed.announce(1, policy_id="critic")
            with pytest.raises(UsageError, match="version 2 of policy 'policy' is older than 3"):
                feed.announce(2)
            assert lease.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.versions == {TRAINED: 3, "critic": 1}


async def test_a_client_that_leaves_gives_its_leases_back_before_close_returns():
    run = fake(3)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            lease = next(feed.groups(credit=2))
            anyio.from_thread.run(run.until, lambda: len(run.leased) == 2)
        assert not run.leased
        with pytest.raises(UsageError, match="closed"):
            lease.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert sorted(run.returned) == [(group, "disconnected") for group in ids(0, 1)]


async def test_groups_beyond_grpcs_four_megabytes_arrive_whole():
    run = FakeDeliveries([closed_group(0, [0.0, 1.0] * 16, prompt=1024, sampled=31_744)])

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            for lease in feed.groups():
                sent = closed_group(0, [0.0] * 32, prompt=1024, sampled=31_744).outcomes[31].trajectory.rows[0]
                np.testing.assert_array_equal(lease.group.members[31].rows[0].row.ids, sent.ids)
                lease.ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.acked == ids(0)


async def test_an_update_is_live_or_says_why_it_is_not():
    run = fake(1)

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            feed.update(1, "first.safetensors")
            with pytest.raises(UpdateFailed, match="the weights are broken"):
                feed.update(2, BROKEN)
            with pytest.raises(UsageError, match="no update of policy 'policy' to version 2 is going on"):
                feed.finish_update(2)
            feed.begin_update(2)
            assert run.updating == {TRAINED: 2}
            feed.finish_update(2)
            feed.move_server("http://10.0.0.7:8000", "sub-agents", "sub.safetensors")
            assert next(feed.groups()).ack()

    async with serve(run, run) as address:
        await in_thread(work, address)
    assert run.versions == {TRAINED: 2}
    assert run.weights == {TRAINED: "first.safetensors"}
    assert run.servers == {"http://10.0.0.7:8000": "sub-agents"}


async def test_an_update_may_take_longer_than_other_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("envhub.feed.client.ANSWER_S", 0.2)
    run = fake(0)

    class Slow(FakeDeliveries):
        async def begin_update(self, policy_id, version, *, deadline_s=0.0):
            await anyio.sleep(0.6)
            await super().begin_update(policy_id, version)

    slow = Slow(())

    def work(address: str) -> None:
        with FeedClient(address, consumer="trainer") as feed:
            feed.update(1, deadline_s=20)

    async with serve(run, slow) as address:
        await in_thread(work, address)
    assert slow.versions == {TRAINED: 1}
