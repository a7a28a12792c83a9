"""The pool keeps its invariants over random trees of rollouts: all end, nothing is returned or destroyed twice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.ids import RolloutId
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.waiting import Holder, Wish
from envhub.errors import LeaseUnavailable, SandboxFault, UsageError
from envhub.testing.fake_sandbox import FakeBackend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool

pytestmark = pytest.mark.anyio
SPEC = SandboxSpec()


@dataclass(frozen=True, slots=True)
class Node:
    """A rollout: what it does in order, then its children, which it waits for."""

    leases: int  # how many sandboxes it takes, one inside the other
    keeps: bool  # whether it holds them while its children run
    together: bool  # whether its children run at once
    pauses: int
    children: tuple["Node", ...] = field(default=())


nodes = st.recursive(
    st.builds(Node, st.integers(0, 2), st.booleans(), st.booleans(), st.integers(0, 3)),
    lambda inner: st.builds(
        Node,
        st.integers(0, 2),
        st.booleans(),
        st.booleans(),
        st.integers(0, 3),
        st.lists(inner, max_size=3).map(tuple),
    ),
    max_leaves=8,
)


def check_over(pool: Pool, backend: FakeBackend) -> None:
    """All leases were returned once, all sandboxes destroyed once."""
    stats = pool.stats()
    assert (stats.live, stats.waiting, stats.granted) == (0, 0, stats.returned)
    assert [sandbox.closed for sandbox in backend.made] == [1] * len(backend.made)
    assert backend.live == 0


class World:
    """Runs trees of rollouts over a pool and counts how they end."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.started = 0
        self.ended = 0
        self.refused = 0

    async def run(self, node: Node, ancestors: tuple[RolloutId, ...] = ()) -> None:
        self.started += 1
        holder = Holder(RolloutId(f"r{self.started}"), ancestors)
        try:
            async with self._leases(node.leases, holder):
                for _ in range(node.pauses):
                    await checkpoint()
                if node.keeps:
                    await self._children(node, holder)
            if not node.keeps:
                await self._children(node, holder)
        except LeaseUnavailable:
            self.refused += 1
        self.ended += 1

    @asynccontextmanager
    async def _leases(self, count: int, holder: Holder) -> AsyncIterator[None]:
        if count == 0:
            yield
            return
        async with self.pool.lease(SPEC, holder), self._leases(count - 1, holder):
            yield

    async def _children(self, node: Node, holder: Holder) -> None:
        line = (holder.rollout_id, *holder.ancestors)
        if not node.together:
            for child in node.children:
                await self.run(child, line)
            return
        async with anyio.create_task_group() as group:
            for child in node.children:
                group.start_soon(self.run, child, line)


@given(st.lists(nodes, min_size=1, max_size=4), st.integers(1, 3))
async def test_every_rollout_of_every_tree_ends_and_every_sandbox_is_destroyed_once(
    trees: list[Node], max_live: int
) -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(max_live, wait_s=3600)) as pool:
        world = World(pool)
        with anyio.fail_after(10):  # an hour before the pool's own deadline: reached only in a deadlock
            async with anyio.create_task_group() as group:
                for tree in trees:
                    group.start_soon(world.run, tree)
        check_over(pool, backend)
    assert world.ended == world.started
    assert backend.most <= max_live


@given(st.lists(nodes, min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 40))
async def test_cancelled_trees_leave_nothing_behind(trees: list[Node], max_live: int, steps: int) -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(max_live)) as pool:
        world = World(pool)
        async with anyio.create_task_group() as group:
            for tree in trees:
                group.start_soon(world.run, tree)
            for _ in range(steps):
                await checkpoint()
            group.cancel_scope.cancel()
        check_over(pool, backend)


@given(st.lists(nodes, min_size=1, max_size=4))
async def test_rollouts_of_one_lease_without_children_are_never_refused(trees: list[Node]) -> None:
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        world = World(pool)
        for tree in trees:
            group.start_soon(world.run, Node(1, tree.keeps, tree.together, tree.pauses))
    assert world.refused == 0


def holder(name: str, *ancestors: str) -> Holder:
    return Holder(RolloutId(name), tuple(map(RolloutId, ancestors)))


async def hold(pool: Pool, who: Holder, log: list[str], release: anyio.Event) -> None:
    try:
        async with pool.lease(SPEC, who):
            log.append(f"+{who.rollout_id}")
            await release.wait()
    except LeaseUnavailable:
        log.append(f"!{who.rollout_id}")


async def settle() -> None:
    for _ in range(20):
        await checkpoint()


def counts(pool: Pool) -> tuple[int, int]:
    stats = pool.stats()
    return stats.live, stats.waiting


async def test_leases_are_granted_in_the_order_of_asking() -> None:
    log, release = list[str](), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        for name in "abcd":
            group.start_soon(hold, pool, holder(name), log, release)
        await settle()
        assert (*counts(pool), log) == (1, 3, ["+a"])
        release.set()
    assert log == ["+a", "+b", "+c", "+d"]


async def test_child_of_the_only_holder_is_refused_at_once() -> None:
    async with open_pool(FakeBackend(), PoolLimits(1, wait_s=2)) as pool, pool.lease(SPEC, holder("parent")):
        with pytest.raises(LeaseUnavailable, match="let a parent give") as refused:
            async with pool.lease(SPEC, holder("grandchild", "child", "parent")):
                pass
    assert not refused.value.retryable


async def test_second_lease_of_the_only_holder_is_refused_at_once() -> None:
    async with open_pool(FakeBackend(), PoolLimits(1, wait_s=2)) as pool, pool.lease(SPEC, holder("greedy")):
        with pytest.raises(LeaseUnavailable, match="let a parent give"):
            async with pool.lease(SPEC, holder("greedy")):
                pass


async def test_youngest_request_is_refused_once_all_leases_are_stuck() -> None:
    log, release = list[str](), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(2)) as pool, anyio.create_task_group() as group:
        for who in (holder("a"), holder("b"), holder("a1", "a"), holder("b1", "b")):
            group.start_soon(hold, pool, who, log, release)
            await settle()
        assert log == ["+a", "+b", "!b1"]  # a1 waits on: b can end
        assert counts(pool) == (2, 1)
        release.set()
    assert log[-1] == "+a1"


async def test_deadlock_that_arises_when_a_waiting_parent_gets_its_lease_is_seen() -> None:
    log, first, rest = list[str](), anyio.Event(), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        group.start_soon(hold, pool, holder("other"), log, first)
        await settle()
        for who in (holder("parent", "root"), holder("child", "parent", "root")):
            group.start_soon(hold, pool, who, log, rest)
        await settle()
        assert log == ["+other"]
        first.set()
        await settle()
        assert sorted(log) == ["!child", "+other", "+parent"]
        rest.set()


async def test_request_that_holds_nobody_up_is_spared() -> None:
    log, release = list[str](), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        for who in (holder("a"), holder("stranger"), holder("a1", "a")):
            group.start_soon(hold, pool, who, log, release)
            await settle()
        assert log == ["+a", "!a1"]
        release.set()
    assert log[-1] == "+stranger"


async def test_deadlock_within_a_quota_is_seen_though_places_are_free() -> None:
    limits = PoolLimits(4, max_per_tenant=1, wait_s=2)
    async with open_pool(FakeBackend(), limits) as pool, pool.lease(SPEC, holder("parent")):
        with pytest.raises(LeaseUnavailable, match="max_per_tenant 1"):
            async with pool.lease(SPEC, holder("child", "parent")):
                pass
        async with pool.lease(SPEC, Holder(RolloutId("judge"), (RolloutId("parent"),), "another")):
            assert counts(pool) == (2, 0)


async def test_request_that_a_quota_holds_back_waits_while_its_tenants_lease_can_end() -> None:
    log, release = list[str](), anyio.Event()
    limits = PoolLimits(2, max_per_tenant=1)
    async with open_pool(FakeBackend(), limits) as pool, anyio.create_task_group() as group:
        for who in (holder("a"), holder("b")):
            group.start_soon(hold, pool, who, log, release)
            await settle()
        assert (*counts(pool), log) == (1, 1, ["+a"])
        release.set()
    assert log == ["+a", "+b"]


async def test_request_costs_the_same_however_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, holds_up = list[Wish](), Wish.holds_up

    def counted(wish: Wish) -> tuple[RolloutId, ...]:
        looks.append(wish)
        return holds_up(wish)

    monkeypatch.setattr(Wish, "holds_up", counted)
    log, release = list[str](), anyio.Event()
    async with open_pool(FakeBackend(), PoolLimits(1)) as pool, anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(hold, pool, holder(str(number)), log, release)
        await settle()
        release.set()
    assert len(log) == 200
    assert len(looks) <= 2 * 200


async def test_waiting_ends_at_its_deadline() -> None:
    limits = PoolLimits(1, wait_s=0.01)
    async with open_pool(FakeBackend(), limits) as pool:
        async with pool.lease(SPEC, holder("a")):
            with pytest.raises(LeaseUnavailable, match=r"within 0.01 s: 1 of 1") as late:
                async with pool.lease(SPEC, holder("b")):
                    pass
        assert late.value.retryable  # others held it up: later it may be granted
        assert counts(pool) == (0, 0)
        assert pool.stats().refused == 1


async def test_full_queue_refuses_at_once() -> None:
    log, release = list[str](), anyio.Event()
    limits = PoolLimits(1, max_waiting=1, wait_s=3600)
    async with open_pool(FakeBackend(), limits) as pool, anyio.create_task_group() as group:
        for name in "ab":
            group.start_soon(hold, pool, holder(name), log, release)
        await settle()
        with pytest.raises(LeaseUnavailable, match="max_waiting") as full:
            async with pool.lease(SPEC, holder("c")):
                pass
        assert full.value.retryable
        assert counts(pool) == (1, 1)
        release.set()
    assert log == ["+a", "+b"]


async def test_failed_creation_gives_the_place_back() -> None:
    async with open_pool(FakeBackend(fails=True), PoolLimits(1)) as pool:
        for _ in range(2):
            with pytest.raises(SandboxFault, match="no luck"):
                async with pool.lease(SPEC, holder("a")):
                    pass
        assert counts(pool) == (0, 0)
        assert (pool.stats().failed, pool.stats().granted, pool.stats().returned) == (2, 2, 2)


async def test_crash_of_the_holder_destroys_its_sandbox() -> None:
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(1)) as pool:
        with pytest.raises(RuntimeError):
            async with pool.lease(SPEC, holder("a")):
                raise RuntimeError
        assert (*counts(pool), backend.made[0].closed) == (0, 0, 1)


async def test_closing_destroys_what_is_leased_and_refuses_who_waits() -> None:
    backend, log, release = FakeBackend(), list[str](), anyio.Event()
    async with anyio.create_task_group() as group:
        async with open_pool(backend, PoolLimits(1)) as pool:
            for name in "ab":
                group.start_soon(hold, pool, holder(name), log, release)
            await settle()
        assert (log, backend.live) == (["+a", "!b"], 0)
        with pytest.raises(LeaseUnavailable, match="closed"):
            async with pool.lease(SPEC, holder("c")):
                pass
        release.set()
    assert backend.made[0].closed == 1


async def test_pool_closed_during_creation_destroys_what_was_made() -> None:
    backend, log = FakeBackend(), list[str]()
    async with anyio.create_task_group() as group, open_pool(backend, PoolLimits(1)) as pool:
        group.start_soon(hold, pool, holder("a"), log, anyio.Event())
        while not pool.stats().live:
            await checkpoint()
    assert (log, backend.made[0].closed) == (["!a"], 1)


@pytest.mark.parametrize("limits", [{"max_live": 0}, {"wait_s": 0}, {"max_per_tenant": 0}, {"ttl_s": float("nan")}])
def test_limits_must_be_positive(limits: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(limits))} .* must be positive"):
        PoolLimits(**limits)
