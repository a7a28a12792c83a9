import time

import anyio
import anyio.lowlevel
import pytest

from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.ids import EnvironmentId, RolloutId
from envhub.contracts.rollout import EnvironmentRef
from envhub.contracts.waiting import Holder
from envhub.environments.pool import EnvironmentPool
from envhub.errors import Boundary, Fault, SandboxFault, UnknownName
from envhub.registry import EnvironmentSpec, environments

pytestmark = pytest.mark.anyio
REF = EnvironmentRef(EnvironmentId("test/it-v0"))


class Counted(Environment):
    alive = 0

    def __init__(self) -> None:
        Counted.alive += 1

    async def reset(self, task, *, seed, ctx):
        return Observation(task.prompt)

    async def step(self, action):
        return StepResult(terminated=True)

    async def close(self) -> None:
        await anyio.lowlevel.checkpoint()
        Counted.alive -= 1


class Failing(Counted):
    async def close(self) -> None:
        raise OSError("disk gone")


class Quick(Counted):
    async def close(self) -> None:
        Counted.alive -= 1


class Hanging(Counted):
    async def close(self) -> None:
        await anyio.sleep_forever()


@pytest.fixture(autouse=True)
def none_alive():
    Counted.alive = 0


async def test_instance_is_closed_after_success_failure_and_cancel(register):
    register(Counted)
    pool = EnvironmentPool()
    async with pool.lease(REF) as environment:
        assert isinstance(environment, Counted)
        assert Counted.alive == 1
    with pytest.raises(SandboxFault):
        async with pool.lease(REF):
            raise SandboxFault("died")
    with anyio.move_on_after(0.01) as scope:
        async with pool.lease(REF):
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert Counted.alive == 0


async def test_cap_is_held_and_the_wait_has_a_deadline(register):
    register(Counted, max_live=2)
    pool = EnvironmentPool(wait_s=0.05)
    async with pool.lease(REF), pool.lease(REF):
        with pytest.raises(Fault, match=r"max_live=2 and none became free within 0\.05 s") as caught:
            async with pool.lease(REF):
                pass
        assert (caught.value.boundary, caught.value.retryable) == (Boundary.ENVIRONMENT, True)
    async with pool.lease(REF):
        assert Counted.alive == 1


async def test_waiting_lease_gets_the_place_that_becomes_free(register):
    register(Counted, max_live=1)
    pool = EnvironmentPool(wait_s=5)
    most = 0

    async def use() -> None:
        nonlocal most
        async with pool.lease(REF):
            most = max(most, Counted.alive)
            await anyio.sleep(0.001)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(use)
    assert (most, Counted.alive) == (1, 0)


async def test_factory_that_raises_is_the_environments_fault_and_frees_its_place(register):
    def broken() -> Environment:
        raise FileNotFoundError("no data set")

    register(broken, max_live=1)
    pool = EnvironmentPool(wait_s=0.05)
    for _ in range(2):
        with pytest.raises(Fault, match="FileNotFoundError: no data set") as caught:
            async with pool.lease(REF):
                pass
        assert caught.value.boundary is Boundary.ENVIRONMENT


async def test_close_that_fails_or_hangs_is_told(register):
    register(Failing)
    with pytest.raises(Fault, match="OSError: disk gone"):
        async with EnvironmentPool().lease(REF):
            pass
    register(Hanging)
    with pytest.raises(Fault, match=r"did not close within 0\.01 s"):
        async with EnvironmentPool(close_s=0.01).lease(REF):
            pass


async def test_a_loop_that_is_late_is_no_fault_of_the_environment(register):
    register(Quick)

    async def stall() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 - it is what other code does to the loop

    async def hold() -> None:
        async with pool.lease(REF):
            """Nothing is done with it."""

    pool = EnvironmentPool(close_s=0.02)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hold)
        tasks.start_soon(stall)
    assert not Counted.alive


async def test_close_that_fails_does_not_hide_what_failed_before(register):
    register(Failing)
    with pytest.raises(SandboxFault, match="died first"):
        async with EnvironmentPool().lease(REF):
            raise SandboxFault("died first")


async def test_unknown_environment_is_told_before_anything_is_made():
    with pytest.raises(UnknownName, match="no environment 'test/none-v0'"):
        async with EnvironmentPool().lease(EnvironmentRef(EnvironmentId("test/none-v0"))):
            pass


def rollout(id: str, *ancestors: str) -> Holder:
    return Holder(RolloutId(id), tuple(map(RolloutId, ancestors)))


async def test_child_that_would_wait_for_its_parents_place_fails_at_once(register):
    register(Counted, max_live=1)
    pool = EnvironmentPool(wait_s=60)
    async with pool.lease(REF, holder=rollout("parent")):
        with anyio.fail_after(30), pytest.raises(Fault, match="max_live=1, and the rollouts that hold") as caught:
            async with pool.lease(REF, holder=rollout("child", "grandparent", "parent")):
                pass
        assert (caught.value.boundary, caught.value.retryable) == (Boundary.ENVIRONMENT, False)
    async with pool.lease(REF, holder=rollout("later")):
        assert Counted.alive == 1


async def test_parents_whose_children_wait_for_each_others_places_do_not_deadlock(register):
    register(Counted, max_live=2)
    pool = EnvironmentPool(wait_s=60)
    both, refused = anyio.Event(), []

    async def parent(name: str) -> None:
        async with pool.lease(REF, holder=rollout(name)):
            if Counted.alive == 2:
                both.set()
            await both.wait()
            try:
                async with pool.lease(REF, holder=rollout(f"{name}/0", name)):
                    pass
            except Fault as fault:
                refused.append(fault)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(parent, "a")
            tasks.start_soon(parent, "b")
    assert len(refused) == 1
    assert Counted.alive == 0


@pytest.fixture
def other(register, monkeypatch) -> EnvironmentRef:
    """A second environment, with one place."""
    spec = EnvironmentSpec(EnvironmentId("test/other-v0"), Counted, (), "", False, 1)
    monkeypatch.setitem(environments._known, spec.id, spec)
    return EnvironmentRef(spec.id)


async def test_deadlock_over_two_environments_is_found(register, other):
    register(Counted, max_live=1)
    pool = EnvironmentPool(wait_s=60)
    a, b = rollout("a"), rollout("b")
    with anyio.fail_after(30):
        async with pool.lease(REF, holder=a), pool.lease(other, holder=b), anyio.create_task_group() as tasks:
            tasks.start_soon(lease, pool, other, rollout("a/0", "a"))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(Fault, match="'test/it-v0' has max_live=1, and the rollouts that hold"):
                await lease(pool, REF, rollout("b/0", "b"))
            tasks.cancel_scope.cancel()


async def test_wait_behind_a_rollout_that_can_end_is_no_deadlock(register, other):
    """Whoever holds the first place waits for the second, whose holder waits for nobody."""
    register(Counted, max_live=1)
    pool = EnvironmentPool(wait_s=60)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks, pool.lease(other, holder=rollout("free")):
            tasks.start_soon(parent_of, pool, REF, other)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(lease, pool, REF, rollout("b/0", "b"))
            await anyio.wait_all_tasks_blocked()
    assert Counted.alive == 0


async def parent_of(pool: EnvironmentPool, own: EnvironmentRef, childs: EnvironmentRef) -> None:
    async with pool.lease(own, holder=rollout("a")):
        await lease(pool, childs, rollout("a/0", "a"))


async def lease(pool: EnvironmentPool, ref: EnvironmentRef, holder: Holder) -> None:
    async with pool.lease(ref, holder=holder):
        pass
