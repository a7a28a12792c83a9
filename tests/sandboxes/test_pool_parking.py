"""Parking: a lease gives its place away and keeps its files; it comes back before those that never had a place."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.lowlevel import checkpoint

from envhub.contracts.command import ExecRequest
from envhub.contracts.ids import RolloutId
from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.sandbox_pool import SandboxLease
from envhub.contracts.session import Interpreter
from envhub.contracts.waiting import Holder
from envhub.errors import LeaseUnavailable, SandboxFault, UsageError
from envhub.testing.fake_sandbox import FakeBackend, FakeSandbox
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool

pytestmark = pytest.mark.anyio
SPEC, CONNECTED = SandboxSpec(), SandboxSpec(network=Network(NetworkMode.GATEWAY))
REQUEST = ExecRequest(("true",))


def holder(name: str, *ancestors: str) -> Holder:
    return Holder(RolloutId(name), tuple(map(RolloutId, ancestors)))


async def settle() -> None:
    for _ in range(30):
        await checkpoint()


@asynccontextmanager
async def leased(backend: FakeBackend, limits: PoolLimits, spec: SandboxSpec = SPEC) -> AsyncIterator[SandboxLease]:
    """The only lease of a pool, all of which was returned, once, at its end."""
    async with open_pool(backend, limits) as pool:
        async with pool.lease(spec, holder("a")) as lease:
            yield lease
        stats = pool.stats()
        assert (stats.granted, stats.live) == (stats.returned + stats.expired, 0)
    check_gone(backend)


def check_gone(backend: FakeBackend) -> None:
    assert [sandbox.closed for sandbox in backend.made] == [1] * len(backend.made)
    assert [snapshot.closed for snapshot in backend.snapshots] == [1] * len(backend.snapshots)


async def test_place_is_for_others_meanwhile_and_the_files_come_back() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool:
        async with pool.lease(SPEC, holder("a")) as lease:
            kept = lease.sandbox
            await kept.write("f", b"1")
            first, token = kept.id, lease.token
            async with lease.park():
                assert (backend.made[0].ended, backend.made[0].closed) == (1, 1)
                async with pool.lease(SPEC, holder("b")) as other:
                    assert await other.sandbox.exec(REQUEST)
                    with pytest.raises(UsageError, match="no file"):
                        await other.sandbox.read("f")
            assert lease.sandbox is kept
            assert await kept.read("f") == b"1"
            assert kept.id != first
            assert lease.token > token + 1
        stats = pool.stats()
    assert (stats.granted, stats.returned) == (3, 3)
    assert backend.most == 1
    check_gone(backend)


async def test_call_brings_a_parked_lease_back_at_once() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease:
        await lease.sandbox.write("f", b"1")
        async with lease.park():
            lease.heartbeat()
            assert await lease.sandbox.read("f") == b"1"
            assert len(backend.made) == 2
        assert len(backend.made) == 2


async def test_parking_within_parking_changes_nothing() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease:
        async with lease.park():
            async with lease.park():
                assert len(backend.made) == 1
            assert len(backend.made) == 2
        assert len(backend.made) == 2


async def test_lease_with_a_fork_keeps_its_place() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease, lease.fork() as fork, lease.park():
        await fork.write("f", b"1")
        assert [sandbox.closed for sandbox in backend.made] == [0, 0]


async def test_lease_with_a_call_under_way_keeps_its_place() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease:
        stream = lease.sandbox.stream(REQUEST)
        await anext(stream)
        async with lease.park():
            assert backend.made[0].closed == 0
        await stream.aclose()


async def test_lease_that_forwards_an_endpoint_keeps_its_place() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1), CONNECTED) as lease:
        await lease.sandbox.forward("127.0.0.1", 80)
        async with lease.park():
            assert backend.made[0].closed == 0


async def test_session_starts_anew_after_parking_and_says_so_once() -> None:
    async with leased(FakeBackend(), PoolLimits(1)) as lease:
        session = await lease.sandbox.session(Interpreter.PYTHON)
        async with lease.park():
            pass
        assert [(await session.run("x")).restarted for _ in range(2)] == [True, False]
        async with lease.park():
            await session.close()
        with pytest.raises((SandboxFault, UsageError)):
            await session.run("x")


async def test_parked_lease_has_no_deadline() -> None:
    now, backend = 0.0, FakeBackend()
    async with (
        open_pool(backend, PoolLimits(1, ttl_s=10), clock=lambda: now) as pool,
        pool.lease(SPEC, holder("a")) as lease,
    ):
        async with lease.park():
            now = 1e6
            pool.expire()
        await lease.sandbox.exec(REQUEST)


async def test_sandbox_that_died_can_not_be_parked() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease:
        backend.made[0].dead = True
        with pytest.raises(SandboxFault, match="died"):
            async with lease.park():
                pytest.fail("it holds nothing")


async def test_lease_that_can_not_come_back_may_try_again_and_ends_all_the_same() -> None:
    backend = FakeBackend()
    async with leased(backend, PoolLimits(1)) as lease:
        await lease.sandbox.write("f", b"1")
        with pytest.raises(SandboxFault, match="no luck"):
            async with lease.park():
                backend.fails = True
        backend.fails = False
        assert await lease.sandbox.read("f") == b"1"


async def test_lease_that_ends_while_parked_leaves_nothing() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool:
        with pytest.raises(RuntimeError, match="crash"):
            async with pool.lease(SPEC, holder("a")) as lease, lease.park():
                raise RuntimeError("crash")
        check_gone(backend)
        with pytest.raises(SandboxFault, match="returned"):
            await lease.sandbox.exec(REQUEST)
        assert (pool.stats().granted, pool.stats().returned) == (1, 1)


async def test_closed_pool_takes_no_parked_lease_back() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool, pool.lease(SPEC, holder("a")) as lease:
        with pytest.raises(LeaseUnavailable, match="closed"):
            async with lease.park():
                await pool.aclose()
    check_gone(backend)


async def hold(pool: Pool, who: Holder, log: list[str], release: anyio.Event) -> None:
    try:
        async with pool.lease(SPEC, who):
            log.append(f"+{who.rollout_id}")
            await release.wait()
    except LeaseUnavailable:
        log.append(f"!{who.rollout_id}")


async def park(pool: Pool, who: Holder, log: list[str], resumed: anyio.Event, release: anyio.Event) -> None:
    try:
        async with pool.lease(SPEC, who) as lease:
            async with lease.park():
                await resumed.wait()
            log.append(f"+{who.rollout_id}")
            await release.wait()
    except LeaseUnavailable as refused:
        log.append(f"!{who.rollout_id} {refused.retryable}")


async def test_who_comes_back_goes_before_those_that_never_had_a_place() -> None:
    log, resumed, first, rest = list[str](), anyio.Event(), anyio.Event(), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        group.start_soon(park, pool, holder("parked"), log, resumed, rest)
        await settle()
        group.start_soon(hold, pool, holder("other"), log, first)
        await settle()
        group.start_soon(hold, pool, holder("new"), log, rest)
        await settle()
        resumed.set()
        await settle()
        first.set()
        await settle()
        assert log == ["+other", "+parked"]
        rest.set()
    assert log[-1] == "+new"


async def test_of_a_deadlock_with_who_comes_back_another_request_is_refused() -> None:
    log, resumed, release = list[str](), anyio.Event(), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(2)) as pool, anyio.create_task_group() as group:
        group.start_soon(hold, pool, holder("p"), log, release)
        await settle()
        group.start_soon(park, pool, holder("p1", "p"), log, resumed, release)
        await settle()
        for who in (holder("q"), holder("q1", "q")):
            group.start_soon(hold, pool, who, log, release)
            await settle()
        assert log == ["+p", "+q"]  # q1 waits: p may end, as far as the pool knows
        resumed.set()
        await settle()
        assert log == ["+p", "+q", "!q1"]
        release.set()
    assert log[-1] == "+p1"


async def test_who_comes_back_into_a_deadlock_of_its_own_fails_and_may_be_tried_again() -> None:
    log, resumed, release = list[str](), anyio.Event(), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        group.start_soon(park, pool, holder("a1", "a"), log, resumed, release)
        await settle()
        group.start_soon(hold, pool, holder("a"), log, release)
        await settle()
        resumed.set()
        await settle()
        assert log == ["+a", "!a1 True"]
        release.set()


async def test_parallel_calls_bring_it_back_once() -> None:
    backend = FakeBackend()

    async def use(lease: SandboxLease) -> None:
        await lease.sandbox.exec(REQUEST)

    async with leased(backend, PoolLimits(1)) as lease:
        async with lease.park(), anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(use, lease)
        made: list[FakeSandbox] = backend.made
        assert len(made) == 2
