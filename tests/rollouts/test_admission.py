"""Slots are never exceeded, lent to children, and given back by whoever is cancelled."""

from collections.abc import Sequence
from typing import TypeAlias

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.errors import UsageError
from envhub.rollouts.admission import Precedence, Slot, Slots

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
        with anyio.fail_after(5):
            async with anyio.create_task_group() as roots:
                for tree in forest:
                    roots.start_soon(run, tree, slots, Precedence.MEMBER)
        return slots

    slots = anyio.run(play)
    assert slots.free == limit
    assert most <= limit


async def test_who_returns_goes_before_children_and_children_before_members() -> None:
    slots = Slots(1)
    await slots.acquire(Precedence.MEMBER)
    order: list[Precedence] = []

    async def wait(precedence: Precedence) -> None:
        await slots.acquire(precedence)
        order.append(precedence)
        slots.release()

    async with anyio.create_task_group() as tasks:
        for precedence in (Precedence.MEMBER, Precedence.CHILD, Precedence.RETURNING):
            tasks.start_soon(wait, precedence)
        await anyio.wait_all_tasks_blocked()
        slots.release()
    assert order == [Precedence.RETURNING, Precedence.CHILD, Precedence.MEMBER]


async def test_two_tools_that_wait_at_once_lend_one_slot() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with slot.hold(Precedence.MEMBER):

        async def lend_while_a_child_acts() -> None:
            async with slot.lend(), Slot(slots).hold(Precedence.CHILD):
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(5):
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
    await slots.acquire(Precedence.MEMBER)

    async def act() -> None:
        async with Slot(slots).hold(Precedence.MEMBER):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(act)
        await anyio.wait_all_tasks_blocked()
        if granted:
            slots.release()
        tasks.cancel_scope.cancel()
    if not granted:
        slots.release()
    assert slots.free == 1


async def test_who_is_cut_while_it_lends_acts_again_only_with_a_slot() -> None:
    slots = Slots(1)
    slot = Slot(slots)
    async with slot.hold(Precedence.MEMBER):
        with anyio.move_on_after(0):
            async with slot.lend():
                await anyio.sleep_forever()
        await slots.acquire(Precedence.MEMBER)  # somebody else acts now
        with anyio.move_on_after(0.01) as waiting:
            await slot.take_back()
        assert waiting.cancelled_caught
        slots.release()
        await slot.take_back()
        assert slots.free == 0
    assert slots.free == 1
