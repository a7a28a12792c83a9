"""Slots are never exceeded, lent to children, and given back by whoever is cancelled."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.events import Event, RolloutEnded, RolloutStarted
from envhub.contracts.ids import TRAINED, PolicyVersion
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UsageError
from envhub.rollouts.admission import GRANTS_A_TICK, Caps, Claim, Precedence, Slot, Slots
from envhub.testing import virtual_time
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from tests.rollouts import worlds  # noqa: F401 - registers its environments

pytestmark = pytest.mark.anyio

Tree: TypeAlias = Sequence["Tree"]
trees: st.SearchStrategy[Tree] = st.recursive(st.just(()), lambda below: st.lists(below, max_size=3), max_leaves=12)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="0; it must be at least 1"):
        Slots(0)


@given(forest=st.lists(trees, min_size=1, max_size=4), limit=st.integers(1, 3))
def test_random_trees_end_and_never_exceed_the_limit(forest: Sequence[Tree], limit: int) -> None:
    acting = 0
    most = 0

    async def act() -> None:
        nonlocal acting, most
        acting += 1
        most = max(most, acting)
        await anyio.lowlevel.checkpoint()
        acting -= 1

    async def run(tree: Tree, slots: Slots, precedence: Precedence) -> None:
        slot = Slot(slots)
        async with slot.hold(precedence):
            await act()
            if tree:
                async with slot.lend(), anyio.create_task_group() as children:
                    for child in tree:
                        children.start_soon(run, child, slots, Precedence.CHILD)
            await slot.take_back()
            await act()

    async def play() -> Slots:
        slots = Slots(limit)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as roots:
                for tree in forest:
                    roots.start_soon(run, tree, slots, Precedence.MEMBER)
        return slots

    slots = anyio.run(play)
    assert slots.free == limit
    assert most <= limit


async def test_who_returns_goes_first_then_what_was_resumed_then_children_then_members() -> None:
    slots = Slots(1)
    await slots.acquire(Claim(), (), Precedence.MEMBER)
    order: list[Precedence] = []

    async def wait(precedence: Precedence) -> None:
        await slots.acquire(Claim(), (), precedence)
        order.append(precedence)
        slots.release(())

    async with anyio.create_task_group() as tasks:
        for precedence in reversed(Precedence):
            tasks.start_soon(wait, precedence)
        await anyio.wait_all_tasks_blocked()
        slots.release(())
    assert order == list(Precedence)


async def test_two_tools_that_wait_at_once_lend_one_slot() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with slot.hold(Precedence.MEMBER):

        async def lend_while_a_child_acts() -> None:
            async with slot.lend(), Slot(slots).hold(Precedence.CHILD):
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tools:
                tools.start_soon(lend_while_a_child_acts)
                tools.start_soon(lend_while_a_child_acts)
            assert slots.free == 1
            await slot.take_back()
        assert slots.free == 0
    assert slots.free == 1


@pytest.mark.parametrize("granted", [False, True])
async def test_a_cancelled_waiter_keeps_no_slot(granted: bool) -> None:
    slots = Slots(1)
    await slots.acquire(Claim(), (), Precedence.MEMBER)

    async def act() -> None:
        async with Slot(slots).hold(Precedence.MEMBER):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(act)
        await anyio.wait_all_tasks_blocked()
        if granted:
            slots.release(())
        tasks.cancel_scope.cancel()
    if not granted:
        slots.release(())
    assert slots.free == 1


async def test_who_is_cut_while_it_lends_acts_again_only_with_a_slot() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with slot.hold(Precedence.MEMBER):
        with anyio.move_on_after(0):
            async with slot.lend():
                await anyio.sleep_forever()
        await slots.acquire(Claim(), (), Precedence.MEMBER)  # somebody else acts now
        with anyio.move_on_after(0.01) as waiting:
            await slot.take_back()
        assert waiting.cancelled_caught
        slots.release(())
        await slot.take_back()
        assert slots.free == 0
    assert slots.free == 1


async def test_a_slot_that_comes_while_it_is_lent_again_goes_on_to_the_next() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with slot.hold(Precedence.MEMBER), anyio.create_task_group() as tasks:
        async with slot.lend():
            await slots.acquire(Claim(), (), Precedence.CHILD)
        tasks.start_soon(slot.take_back)
        await anyio.wait_all_tasks_blocked()
        async with slot.lend():
            slots.release(())
            await anyio.wait_all_tasks_blocked()
            assert slots.free == 1
        await slot.take_back()
    assert slots.free == 1


async def test_a_slot_that_comes_after_the_rollout_has_ended_goes_on_to_the_next() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with anyio.create_task_group() as left_behind:
        async with slot.hold(Precedence.MEMBER):
            async with slot.lend():
                await slots.acquire(Claim(), (), Precedence.CHILD)
            left_behind.start_soon(slot.take_back)
            await anyio.wait_all_tasks_blocked()
        slots.release(())
        await anyio.wait_all_tasks_blocked()
        assert slots.free == 1
        await slot.take_back()
    assert slots.free == 1


async def test_who_fails_while_it_is_away_does_not_wait_for_its_slot() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    with anyio.fail_after(30), pytest.raises(LookupError):
        async with slot.hold(Precedence.MEMBER), slot.away():
            await slots.acquire(Claim(), (), Precedence.MEMBER)  # somebody else has it by now
            raise LookupError


def test_a_cap_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="cap of environment 'a/b-v0' is 0; it must be at least 1"):
        Caps(environments={"a/b-v0": 0})


claims = st.builds(
    Claim,
    environment=st.sampled_from("abc"),
    engine=st.sampled_from("xy"),
    policy=st.sampled_from("pq"),
    version=st.integers(0, 2),
    priority=st.integers(0, 1),
    submission=st.integers(0, 5),
)
limits = st.integers(1, 3)
caps = st.builds(
    Caps,
    environments=st.dictionaries(st.sampled_from("abc"), limits),
    engines=st.dictionaries(st.sampled_from("xy"), limits),
    policies=st.dictionaries(st.sampled_from("pq"), limits),
)


class Node:
    """A rollout that acts, waits for its children, and acts again."""

    def __init__(self, claim: Claim, children: Sequence["Node"]) -> None:
        self.claim = claim
        self.children = children

    def __repr__(self) -> str:
        return f"Node({self.claim}, {self.children})"


nodes = st.recursive(
    st.builds(Node, claims, st.just(())), lambda below: st.builds(Node, claims, st.lists(below, max_size=3))
)


class Watched:
    """Who acts at this moment, held against the caps whenever somebody more does."""

    def __init__(self, limit: int, caps: Caps) -> None:
        self.slots = Slots(limit, caps)
        self._limit = limit
        self._caps = caps
        self._acting: list[Claim] = []

    async def act(self, claim: Claim, seconds: float) -> None:
        self._acting.append(claim)
        assert len(self._acting) <= self._limit
        for kind, most in self._caps.by_kind.items():
            for name, cap in most.items():
                assert sum(getattr(other, kind) == name for other in self._acting) <= cap
        try:
            await anyio.sleep(seconds)
        finally:
            self._acting.remove(claim)

    def check_idle(self) -> None:
        assert not self._acting
        assert not self.slots.waiting
        assert self.slots.free == self._limit
        assert not any(cap.used or cap.held_up for cap in self.slots._caps.values())


@given(
    forest=st.lists(nodes, min_size=1, max_size=5),
    limit=limits,
    caps=caps,
    cancel_s=st.none() | st.floats(0, 10),
    seed=st.integers(0, 2**16),
)
def test_trees_over_many_caps_end_and_no_cap_is_ever_exceeded(
    forest: Sequence[Node], limit: int, caps: Caps, cancel_s: float | None, seed: int
) -> None:
    async def run(node: Node, watched: Watched, precedence: Precedence) -> None:
        slot = Slot(watched.slots, node.claim)
        async with slot.hold(precedence):
            await watched.act(node.claim, 1)
            if node.children:
                async with slot.lend(), anyio.create_task_group() as children:
                    for child in node.children:
                        children.start_soon(run, child, watched, Precedence.CHILD)
            await slot.take_back()
            await watched.act(node.claim, 1)

    async def play() -> None:
        watched = Watched(limit, caps)
        async with anyio.create_task_group() as all_roots, anyio.create_task_group() as some_roots:
            for number, root in enumerate(forest):
                roots = some_roots if number % 2 else all_roots
                roots.start_soon(run, root, watched, Precedence.MEMBER)
            if cancel_s is not None:
                await anyio.sleep(cancel_s)
                some_roots.cancel_scope.cancel()
        watched.check_idle()

    virtual_time.run(play, seed=seed)  # which finds a deadlock: Stuck


@given(
    waiting=st.lists(st.tuples(claims, st.sampled_from(Precedence), st.booleans()), max_size=12),
    caps=caps,
    seed=st.integers(0, 2**16),
)
def test_whoever_is_cancelled_loses_no_slot(
    waiting: Sequence[tuple[Claim, Precedence, bool]], caps: Caps, seed: int
) -> None:
    async def play() -> None:
        watched = Watched(2, caps)

        async def wait(claim: Claim, precedence: Precedence) -> None:
            async with Slot(watched.slots, claim).hold(precedence):
                await watched.act(claim, 1)

        async with anyio.create_task_group() as stay, anyio.create_task_group() as leave:
            for claim, precedence, leaves in waiting:
                (leave if leaves else stay).start_soon(wait, claim, precedence)
            await anyio.sleep(seed % 4 / 2)
            leave.cancel_scope.cancel()
        watched.check_idle()

    virtual_time.run(play, seed=seed)


async def test_a_child_gets_the_cap_that_its_waiting_parent_lends() -> None:
    slots = Slots(2, Caps(environments={"b": 1}))
    parent = Slot(slots, Claim("b"))
    with anyio.fail_after(30):
        async with parent.hold(Precedence.MEMBER), parent.lend(), Slot(slots, Claim("b")).hold(Precedence.CHILD):
            assert slots.free == 1


async def test_who_needs_a_full_cap_keeps_nobody_else_waiting() -> None:
    slots = Slots(3, Caps(environments={"a": 1}))
    with anyio.fail_after(30):
        async with Slot(slots, Claim("a")).hold(Precedence.MEMBER), anyio.create_task_group() as tasks:
            tasks.start_soon(forever, slots, Claim("a", priority=9))
            await anyio.wait_all_tasks_blocked()
            async with Slot(slots, Claim("b")).hold(Precedence.MEMBER):
                assert slots.waiting == 1
            tasks.cancel_scope.cancel()


async def test_a_burst_of_starts_is_spread_over_ticks_of_the_loop() -> None:
    slots = Slots(10_000)
    async with anyio.create_task_group() as tasks:
        for _ in range(10 * GRANTS_A_TICK):
            tasks.start_soon(forever, slots, Claim())
        most, before = 0, slots.free
        while slots.waiting or before == 10_000:
            await anyio.lowlevel.checkpoint()
            most, before = max(most, before - slots.free), slots.free
        assert slots.free == 10_000 - 10 * GRANTS_A_TICK
        tasks.cancel_scope.cancel()
    assert most <= 2 * GRANTS_A_TICK  # a checkpoint may see the ends of two ticks


async def forever(slots: Slots, claim: Claim) -> None:
    async with Slot(slots, claim).hold(Precedence.MEMBER):
        await anyio.sleep_forever()


async def starts(run: ScriptedRun, groups: Sequence[GroupRequest]) -> list[str]:
    """The rollouts in the order in which they began, all groups having been submitted while the first one acted."""
    for group in groups:
        await run.manager.start(group)
    await run.manager.finish()
    return [event.rollout_id for event in await run.events() if isinstance(event, RolloutStarted)]


async def test_members_of_a_higher_priority_go_first_and_of_one_priority_environments_take_turns() -> None:
    walk, stroll = request("test/walk-v0", k=2), request("test/stroll-v0", k=2)
    groups = [request("test/walk-v0"), walk, replace(stroll, priority=1), walk, stroll]
    async with open_scripted_run(lambda asked: "go", max_running=1, latency_s=0.001) as run:
        order = await starts(run, groups)
    assert order[0] == "test-0-0-0"
    assert order[1:3] == ["test-2-0-0", "test-2-1-0"]
    assert order[3:] == ["test-1-0-0", "test-4-0-0", "test-1-1-0", "test-4-1-0", "test-3-0-0", "test-3-1-0"]


async def test_members_that_were_submitted_under_an_older_version_go_first() -> None:
    later = replace(request("test/walk-v0"), priority=5)
    async with open_scripted_run(lambda asked: "go", max_running=1, latency_s=0.01) as run:
        await run.manager.start(request("test/walk-v0", k=2))
        await run.manager.announce(TRAINED, PolicyVersion(1))
        order = await starts(run, [later])
    assert order == ["test-0-0-0", "test-0-1-0", "test-1-0-0"]


async def test_rollouts_of_a_capped_environment_leave_room_for_others() -> None:
    acting: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def count(event: Event) -> None:
        if isinstance(event, RolloutStarted | RolloutEnded):
            name = event.rollout_id.split("-")[1]  # of the group
            acting[name] += 1 if isinstance(event, RolloutStarted) else -1
            most[name] = max(most[name], acting[name])

    caps = Caps(environments={"test/walk-v0": 2}, policies={TRAINED: 5}, engines={"scripted": 4})
    async with open_scripted_run(lambda asked: "go", max_running=8, latency_s=0.005, caps=caps) as run:
        run.recorder.listen(count)
        await starts(run, [request("test/walk-v0", k=10), request("test/stroll-v0", k=10)])
        assert run.slots.free == 8
    assert most["0"] == 2
    assert 2 <= most["1"] <= 4
