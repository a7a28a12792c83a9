"""Leases: warm ones cost nothing, expired ones refuse every call, and used sandboxes serve again only when clean."""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.command import ExecRequest, ExecResult
from envhub.contracts.ids import RolloutId
from envhub.contracts.network import Network, NetworkMode
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.sandbox_pool import SandboxLease, SandboxPool
from envhub.contracts.session import Interpreter
from envhub.contracts.waiting import Holder
from envhub.errors import LeaseUnavailable, SandboxFault, UsageError
from envhub.testing.fake_sandbox import FakeBackend, FakeSandbox, succeeded
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool
from sandboxes.pool.reset import CLEAN

pytestmark = pytest.mark.anyio
SPEC, OTHER = SandboxSpec(), SandboxSpec(cpus=2)
REUSABLE = SandboxSpec(reusable=True, network=Network(NetworkMode.GATEWAY))
REQUEST = ExecRequest(("true",))


@dataclass(slots=True)
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def clean(sandbox: FakeSandbox, request: ExecRequest) -> ExecResult:
    return succeeded(CLEAN)


def holder(name: str, tenant: str = "") -> Holder:
    return Holder(RolloutId(name), (), tenant)


async def settle() -> None:
    for _ in range(30):
        await checkpoint()


async def test_the_pool_is_what_the_contract_says() -> None:
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool:
        promised: SandboxPool = pool
        async with promised.lease(SPEC, holder("a")) as lease:
            kept: SandboxLease = lease
            assert kept.token == 1


# Warm sandboxes.


async def test_warm_sandbox_is_leased_without_waiting_and_replaced_in_the_background() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(4), warm={SPEC: 2}) as pool:
        await settle()
        assert pool.stats().warm == {SPEC: 2}
        async with AsyncExitStack() as stack:
            lease = await at_once(stack, pool)
            assert lease.sandbox.id == backend.made[0].id
            await settle()
            assert pool.stats().warm == {SPEC: 2}
        await settle()
        assert len(backend.made) == 3
    assert [sandbox.closed for sandbox in backend.made] == [1, 1, 1]


async def at_once(stack: AsyncExitStack, pool: Pool) -> SandboxLease:
    """A lease that was got without one turn of the loop."""
    turns = list[int]()

    async def count() -> None:
        while True:
            turns.append(1)
            await checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        lease = await stack.enter_async_context(pool.lease(SPEC, holder("a")))
        assert not turns
        group.cancel_scope.cancel()
    return lease


async def test_warm_sandboxes_count_and_give_way_to_a_request_of_another_spec() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(2), warm={SPEC: 2}) as pool:
        await settle()
        async with pool.lease(OTHER, holder("a")):
            assert backend.live == 2
            assert pool.stats().warm == {SPEC: 1}
        await settle()
        assert pool.stats().warm == {SPEC: 2}
    assert backend.most == 2


async def test_the_least_wanted_warm_sandbox_goes_first() -> None:
    wanted, third = SandboxSpec(cpus=3), SandboxSpec(cpus=4)
    async with open_pool(FakeBackend(), PoolLimits(2), warm={SPEC: 1, wanted: 1}) as pool:
        await settle()
        async with pool.lease(SPEC, holder("a")):
            pass
        await settle()
        async with pool.lease(third, holder("b")):
            assert pool.stats().warm == {SPEC: 1}


async def test_spec_that_was_leased_lately_is_kept_warm() -> None:
    async with open_pool(FakeBackend(), PoolLimits(3), warm_each=1) as pool:
        await settle()
        assert pool.stats().warm == {}
        async with pool.lease(SPEC, holder("a")):
            await settle()
            assert pool.stats().warm == {SPEC: 1}


async def test_warm_sandbox_that_is_half_its_lifetime_old_is_replaced() -> None:
    clock, backend = Clock(), FakeBackend()
    async with open_pool(backend, PoolLimits(1), warm={SPEC: 1}, clock=clock) as pool:
        await settle()
        clock.now = SPEC.lifetime_s / 2
        pool.expire()
        await settle()
        assert [sandbox.closed for sandbox in backend.made] == [1, 0]
        assert pool.stats().warm == {SPEC: 1}


async def test_back_end_that_fails_is_asked_for_warm_ones_again_only_after_a_while() -> None:
    clock, backend = Clock(), FakeBackend(fails=True)
    async with open_pool(backend, PoolLimits(1), warm={SPEC: 1}, clock=clock) as pool:
        await settle()
        assert pool.stats().failed == 1
        backend.fails, clock.now = False, 60.0
        pool.expire()
        await settle()
        assert pool.stats().warm == {SPEC: 1}


async def test_lease_with_files_gets_a_sandbox_of_its_own() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(2), warm={SPEC: 1}) as pool:
        await settle()
        await backend.made[0].write("f", b"1")
        snapshot = await backend.made[0].snapshot()
        async with pool.lease(SPEC, holder("a"), files=snapshot) as lease:
            assert lease.sandbox.id != backend.made[0].id
            assert await lease.sandbox.read("f") == b"1"


@pytest.mark.parametrize("warm", [{SPEC: 3}, {SPEC: -1}])
async def test_more_warm_ones_than_places_are_refused(warm: dict[SandboxSpec, int]) -> None:
    with pytest.raises(UsageError, match="max_live of 2"):
        async with open_pool(FakeBackend(), PoolLimits(2), warm=warm):
            pass


async def test_warm_lease_takes_well_under_a_millisecond_of_processor_time() -> None:
    async with open_pool(FakeBackend(), PoolLimits(40), warm={SPEC: 20}) as pool:
        await settle()
        took = list[float]()
        for _ in range(20):
            async with AsyncExitStack() as stack:
                before = time.process_time()
                await stack.enter_async_context(pool.lease(SPEC, holder("a")))
                took.append(time.process_time() - before)
    assert sorted(took)[10] < 0.001


# Deadlines.


async def test_expired_lease_refuses_every_call_and_names_its_token() -> None:
    clock, backend = Clock(), FakeBackend()
    async with open_pool(backend, PoolLimits(1, ttl_s=10), clock=clock) as pool:
        async with pool.lease(SPEC, holder("a")) as lease:
            session = await lease.sandbox.session(Interpreter.SHELL)
            clock.now = 10.0
            pool.expire()
            await settle()
            for call in (
                lease.sandbox.exec(REQUEST),
                lease.sandbox.write("f", b""),
                lease.sandbox.stats(),
                lease.sandbox.close(),
                anext(lease.sandbox.stream(REQUEST)),
                session.run("x"),
            ):
                with pytest.raises(SandboxFault, match=r"lease 1 .* nothing was asked of it for 10 s"):
                    await call
            with pytest.raises(SandboxFault, match="lease 1"):
                lease.heartbeat()
            assert backend.made[0].closed == 1
            async with pool.lease(SPEC, holder("b")) as later:  # its place is another's by now
                assert later.token == 2
        stats = pool.stats()
    assert (stats.granted, stats.returned, stats.expired, stats.live) == (2, 1, 1, 0)
    assert [sandbox.closed for sandbox in backend.made] == [1, 1]


async def test_every_call_puts_the_deadline_off() -> None:
    clock = Clock()
    async with (
        open_pool(FakeBackend(), PoolLimits(1, ttl_s=10), clock=clock) as pool,
        pool.lease(SPEC, holder("a")) as lease,
    ):
        for _ in range(3):
            clock.now += 9
            pool.expire()
            await lease.sandbox.exec(REQUEST)
        clock.now += 9
        lease.heartbeat()
        clock.now += 9
        pool.expire()
        await lease.sandbox.exec(REQUEST)


async def test_lease_does_not_run_out_under_a_long_call() -> None:
    clock, backend = Clock(), FakeBackend()

    def long(sandbox: FakeSandbox, request: ExecRequest) -> ExecResult:
        clock.now += 1000
        pool.expire()
        return succeeded()

    backend.command = long
    async with (
        open_pool(backend, PoolLimits(1, ttl_s=10), clock=clock) as pool,
        pool.lease(SPEC, holder("a")) as lease,
    ):
        await lease.sandbox.exec(REQUEST)
        await lease.sandbox.exec(REQUEST)


async def test_no_call_keeps_a_sandbox_beyond_its_lifetime() -> None:
    clock, spec = Clock(), SandboxSpec(lifetime_s=5)
    async with (
        open_pool(FakeBackend(), PoolLimits(1), clock=clock) as pool,
        pool.lease(spec, holder("a")) as lease,
    ):
        clock.now = 5
        pool.expire()
        with pytest.raises(SandboxFault, match="lifetime_s of 5 s"):
            await lease.sandbox.exec(REQUEST)


async def test_returned_lease_refuses_whoever_kept_its_sandbox() -> None:
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool:
        async with pool.lease(SPEC, holder("a")) as lease:
            kept = lease.sandbox
        with pytest.raises(SandboxFault, match=r"lease 1 .* returned"):
            await kept.exec(REQUEST)


# Use again.


async def test_sandbox_is_destroyed_after_use_unless_its_spec_allows_more() -> None:
    backend = FakeBackend(command=clean)
    async with open_pool(backend, PoolLimits(1)) as pool:
        async with pool.lease(SPEC, holder("a")):
            pass
        assert backend.made[0].closed == 1


async def test_reusable_sandbox_serves_again_without_the_files_of_the_last_lease() -> None:
    backend = FakeBackend(command=clean)
    async with open_pool(backend, PoolLimits(1)) as pool:
        for name in "ab":
            async with pool.lease(REUSABLE, holder(name)) as lease:
                assert backend.made[0].files == {}
                await lease.sandbox.write("secret", b"x")
            assert backend.made[0].ended >= 1  # the holder leaves when no process is left
            await settle()
    assert [sandbox.closed for sandbox in backend.made] == [1]


def left_behind(sandbox: FakeSandbox) -> None:
    sandbox.pids += 1


def tampered(sandbox: FakeSandbox) -> None:
    sandbox.backend.command = lambda sandbox, request: succeeded(b"/tmp/x is left\n")


def dead(sandbox: FakeSandbox) -> None:
    def end_processes(*_: object) -> None:
        raise SandboxFault("died")

    sandbox.backend.command = end_processes


@pytest.mark.parametrize("misdeed", [left_behind, tampered, dead])
async def test_sandbox_that_is_not_clean_after_its_reset_is_destroyed(misdeed) -> None:
    backend = FakeBackend(command=clean)
    async with open_pool(backend, PoolLimits(1)) as pool:
        async with pool.lease(REUSABLE, holder("a")):
            misdeed(backend.made[0])
        await settle()
        assert backend.made[0].closed == 1
        assert pool.stats().warm == {}


async def test_sandbox_with_a_way_to_its_holders_endpoint_is_not_used_again() -> None:
    backend = FakeBackend(command=clean)
    async with open_pool(backend, PoolLimits(1)) as pool:
        async with pool.lease(REUSABLE, holder("a")) as lease:
            await lease.sandbox.forward("127.0.0.1", 80)
        await settle()
        assert backend.made[0].closed == 1


# Forks.


async def test_fork_has_the_files_of_now_and_takes_over_the_place() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool, pool.lease(SPEC, holder("a")) as lease:
        await lease.sandbox.write("f", b"1")
        async with lease.fork() as fork:
            assert backend.made[0].ended == 1
            assert await fork.read("f") == b"1"
            await fork.write("hidden", b"2")
        assert backend.made[1].closed == 1
        assert backend.made[0].files == {"f": b"1"}
        with pytest.raises(SandboxFault, match="closed"):
            await fork.exec(REQUEST)


async def test_second_fork_at_once_is_refused() -> None:
    async with (
        open_pool(FakeBackend(), PoolLimits(1)) as pool,
        pool.lease(SPEC, holder("a")) as lease,
        lease.fork(),
    ):
        with pytest.raises(UsageError, match="one place"):
            async with lease.fork():
                pass


async def test_fork_ends_with_its_lease() -> None:
    clock, backend = Clock(), FakeBackend()
    async with (
        open_pool(backend, PoolLimits(1, ttl_s=10), clock=clock) as pool,
        pool.lease(SPEC, holder("a")) as lease,
        lease.fork() as fork,
    ):
        clock.now = 10
        pool.expire()
        await settle()
        with pytest.raises(SandboxFault, match="lease 1"):
            await fork.exec(REQUEST)
        assert [sandbox.closed for sandbox in backend.made] == [1, 1]


# Drain.


async def test_drain_waits_for_who_holds_a_lease_and_refuses_all_others() -> None:
    backend, log, release = FakeBackend(), list[str](), anyio.Event()

    async def use(name: str) -> None:
        try:
            async with pool.lease(SPEC, holder(name)):
                log.append(f"+{name}")
                await release.wait()
        except LeaseUnavailable as refused:
            log.append(f"!{name}: {refused}")

    async def drain() -> None:
        assert await pool.drain(3600) == 0
        log.append("drained")

    async with open_pool(backend, PoolLimits(1)) as pool, anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(use, name)
            await settle()
        group.start_soon(drain)
        await settle()
        assert log[0] == "+a"
        assert "drains" in log[1]
        assert "drained" not in log
        release.set()
    assert log[-1] == "drained"
    assert backend.live == 0


async def test_drain_cuts_off_who_holds_on_too_long() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1), warm={SPEC: 1}) as pool, pool.lease(SPEC, holder("a")) as lease:
        assert await pool.drain(0) == 1
        with pytest.raises(SandboxFault, match="closed"):
            await lease.sandbox.exec(REQUEST)
        assert backend.live == 0


# All of it at random.


@dataclass(frozen=True, slots=True)
class Use:
    """What one holder does with its lease."""

    tenant: str
    spec: SandboxSpec
    pauses: int
    fork: bool
    parks: bool
    gives_up: int  # after so many turns; 0: never


uses = st.builds(
    Use,
    st.sampled_from("ab"),
    st.sampled_from([SPEC, OTHER, REUSABLE]),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0, 0, 1, 2, 4, 8, 16]),
)


@dataclass(slots=True)
class Watch:
    """Who holds what, as the holders themselves know it."""

    held: dict[str, Use] = field(default_factory=dict)  # by sandbox id
    tokens: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def holding(self, lease: SandboxLease, use: Use, limits: PoolLimits) -> AsyncIterator[None]:
        assert lease.sandbox.id not in self.held  # leases never overlap
        self.held[lease.sandbox.id] = use
        self.tokens.append(lease.token)
        assert sum(other.tenant == use.tenant for other in self.held.values()) <= (limits.max_per_tenant or 99)
        assert sum(other.spec == use.spec for other in self.held.values()) <= (limits.max_per_spec or 99)
        try:
            yield
        finally:
            del self.held[lease.sandbox.id]


async def act(pool: Pool, use: Use, watch: Watch, limits: PoolLimits) -> None:
    async with pool.lease(use.spec, holder(str(id(use)), use.tenant)) as lease:
        async with watch.holding(lease, use, limits):
            for _ in range(use.pauses):
                await lease.sandbox.stats()
            if use.fork:
                async with lease.fork() as fork:
                    await fork.write("x", b"")
            await lease.sandbox.write("y", b"")
        if use.parks:
            async with lease.park():
                for _ in range(use.pauses):
                    await checkpoint()
            async with watch.holding(lease, use, limits):
                assert await lease.sandbox.read("y") == b""


async def act_or_give_up(pool: Pool, use: Use, watch: Watch, limits: PoolLimits) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(act, pool, use, watch, limits)
        for _ in range(use.gives_up):
            await checkpoint()
        if use.gives_up:
            group.cancel_scope.cancel()


@given(
    st.lists(uses, max_size=12),
    st.integers(1, 3),
    st.sampled_from([None, 1, 2]),
    st.sampled_from([None, 1]),
    st.integers(0, 1),
)
async def test_leases_never_overlap_and_all_end_whatever_happens(
    plan: list[Use], max_live: int, per_tenant: int | None, per_spec: int | None, warm: int
) -> None:
    backend, watch = FakeBackend(command=clean), Watch()
    limits = PoolLimits(max_live, max_per_tenant=per_tenant, max_per_spec=per_spec, wait_s=3600)
    async with open_pool(backend, limits, warm={SPEC: warm}, warm_each=warm) as pool:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                for use in plan:
                    group.start_soon(act_or_give_up, pool, use, watch, limits)
        stats = pool.stats()
    assert (stats.live, stats.waiting, stats.refused) == (0, 0, 0)
    assert stats.granted == stats.returned
    assert len(set(watch.tokens)) == len(watch.tokens)
    assert [sandbox.closed for sandbox in backend.made] == [1] * len(backend.made)
    assert [snapshot.closed for snapshot in backend.snapshots] == [1] * len(backend.snapshots)
    forks = any(use.fork for use in plan)
    assert backend.most <= max_live * (1 + forks)
