"""Sandboxes in rollouts: one lease a spec, a fork for the judge, and kept for as long as the rollout lives."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import anyio
import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.policy import Action, PolicyInput
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.session import Interpreter
from envhub.contracts.task import Task
from envhub.contracts.waiting import Holder
from envhub.errors import Boundary
from envhub.registry import EnvironmentSpec, environments
from envhub.testing import virtual_time
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import open_scripted_run, request
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool

pytestmark = pytest.mark.anyio
SPEC, ID = SandboxSpec(), EnvironmentId("test/patch-v0")
Act = Callable[[Context], Awaitable[float]]


class Patch(Environment):
    """One step, which does what the test says, and a judge that does, too."""

    def __init__(self, act: Act, judge: Act | None) -> None:
        self._act = act
        self.judge = None if judge is None else AsJudge(judge)

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(reward=await self._act(self._ctx), terminated=True)


class AsJudge:
    def __init__(self, judge: Act) -> None:
        self._judge = judge

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        return Score(await self._judge(ctx))


async def play(monkeypatch: pytest.MonkeyPatch, pool: Pool, act: Act, judge: Act | None = None) -> Outcome:
    spec = EnvironmentSpec(ID, lambda: Patch(act, judge), [Task.ask("patch it")], "", True, None)
    monkeypatch.setitem(environments._known, ID, spec)
    async with open_scripted_run(lambda asked: "done", sandboxes=pool) as run:
        (outcome,) = await run.play(request(ID))
    return outcome


async def write_patch(ctx: Context) -> float:
    sandbox = await ctx.sandbox(SPEC)
    assert sandbox is await ctx.sandbox(SPEC)
    await sandbox.write("patch", b"1")
    return 1.0


async def test_a_judge_works_in_a_fork_whose_files_the_agent_never_sees(monkeypatch) -> None:
    backend = FakeBackend()

    async def judge(ctx: Context) -> float:
        async with ctx.fork(SPEC) as fork:
            await fork.write("hidden_test", b"?")
            return float(await fork.read("patch"))

    async with open_pool(backend, PoolLimits(1)) as pool:
        outcome = await play(monkeypatch, pool, write_patch, judge)
        assert pool.stats().granted == 1
    agents, judges = backend.made
    assert outcome.reward == 1.0
    assert agents.files == {"patch": b"1"}
    assert judges.files == {"patch": b"1", "hidden_test": b"?"}
    assert (agents.closed, judges.closed) == (1, 1)
    assert agents.ended >= 1


async def test_what_the_agent_left_running_has_ended_before_its_judge_looks(monkeypatch) -> None:
    backend = FakeBackend()

    async def judge(ctx: Context) -> float:
        return float(backend.made[0].ended)

    async with open_pool(backend, PoolLimits(1)) as pool:
        assert (await play(monkeypatch, pool, write_patch, judge)).reward == 1.0


async def test_a_fork_of_a_sandbox_that_was_never_leased_is_an_error(monkeypatch) -> None:
    async def act(ctx: Context) -> float:
        async with ctx.fork(SPEC):
            return 1.0

    async with open_pool(FakeBackend(), PoolLimits(1)) as pool:
        outcome = await play(monkeypatch, pool, act)
    assert outcome.failure is not None
    assert "ctx.sandbox(spec) leases one" in outcome.failure.message


async def test_a_sandbox_starts_from_the_files_it_is_given_and_only_at_the_first_call(monkeypatch) -> None:
    backend = FakeBackend()
    other = await backend.create(SPEC)
    await other.write("start", b"2")
    snapshot = await other.snapshot()

    async def act(ctx: Context) -> float:
        sandbox = await ctx.sandbox(SPEC, files=snapshot)
        assert await sandbox.read("start") == b"2"
        await ctx.sandbox(SPEC, files=snapshot)
        return 1.0

    async with open_pool(backend, PoolLimits(1)) as pool:
        outcome = await play(monkeypatch, pool, act)
    assert outcome.failure is not None
    assert "must be the first call for a spec" in outcome.failure.message


async def test_a_turn_keeps_the_rollouts_sandbox_though_nothing_is_asked_of_it(monkeypatch) -> None:
    now = 0.0

    async def act(ctx: Context) -> float:
        nonlocal now
        sandbox = await ctx.sandbox(SPEC)
        for _ in range(3):
            now += 9.0
            pool.expire()
            await ctx.policy().act(PolicyInput((Message.user("go on?"),)))
        await sandbox.stats()
        return 1.0

    async with open_pool(FakeBackend(), PoolLimits(1, ttl_s=10), clock=lambda: now) as pool:
        outcome = await play(monkeypatch, pool, act)
    assert outcome.reward == 1.0


async def test_a_rollout_that_lost_its_sandbox_fails_at_the_sandbox(monkeypatch) -> None:
    now = 0.0

    async def act(ctx: Context) -> float:
        nonlocal now
        sandbox = await ctx.sandbox(SPEC)
        now = 10.0
        pool.expire()
        await sandbox.stats()
        return 1.0

    async with open_pool(FakeBackend(), PoolLimits(1, ttl_s=10), clock=lambda: now) as pool:
        outcome = await play(monkeypatch, pool, act)
        assert pool.stats().expired == 1
    assert outcome.failure is not None
    assert (outcome.failure.boundary, outcome.failure.retryable) == (Boundary.SANDBOX, True)


def paused(monkeypatch: pytest.MonkeyPatch, act: Act, *, parks: bool) -> tuple[int, Outcome]:
    """How many sandboxes lived while the run was paused, and how its rollout ended."""
    spec = EnvironmentSpec(ID, lambda: Patch(act, None), [Task.ask("patch it")], "", True, None)
    monkeypatch.setitem(environments._known, ID, spec)

    async def play() -> tuple[int, Outcome]:
        backend = FakeBackend()
        async with (
            open_pool(backend, PoolLimits(1), clock=anyio.current_time) as pool,
            open_scripted_run(lambda asked: "done", latency_s=10.0, sandboxes=pool, parks_sandboxes=parks) as run,
        ):
            group = await run.manager.start(request(ID))
            await anyio.sleep(15)  # within the turn that the step takes
            await run.manager.pause(Scope(), PauseMode.CUT)
            await anyio.sleep(100)
            live = backend.live
            await run.manager.resume(Scope())
            await group.handed_on.wait()
            stats = pool.stats()
            assert (stats.live, stats.granted) == (0, stats.returned)
            assert run.slots.free == 8
        return live, group.outcomes[0]

    return virtual_time.run(play)


async def use_it_before_and_after_a_turn(ctx: Context) -> float:
    sandbox = await ctx.sandbox(SPEC)
    await sandbox.write("patch", b"1")
    shell = await sandbox.session(Interpreter.SHELL)
    await ctx.policy().act(PolicyInput((Message.user("go on?"),)))
    assert sandbox is await ctx.sandbox(SPEC)
    ctx.log("restarted" if (await shell.run("x")).restarted else "the same shell")
    return float(await sandbox.read("patch"))


@pytest.mark.parametrize(("parks", "live"), [(False, 1), (True, 0)])
def test_a_pause_keeps_a_sandbox_or_its_files_alone(monkeypatch, parks: bool, live: int) -> None:
    alive, outcome = paused(monkeypatch, use_it_before_and_after_a_turn, parks=parks)
    assert outcome.reward == 1.0
    assert alive == live


async def test_rollouts_ask_for_sandboxes_with_their_groups_priority(monkeypatch) -> None:
    holders = list[Holder]()
    lease = Pool.lease

    def noted(pool: Pool, spec: SandboxSpec, holder: Holder, **files: object) -> object:
        holders.append(holder)
        return lease(pool, spec, holder, **files)

    async def act(ctx: Context) -> float:
        await ctx.sandbox(SPEC)
        return 0.0

    monkeypatch.setattr(Pool, "lease", noted)
    spec = EnvironmentSpec(ID, lambda: Patch(act, None), [Task.ask("patch it")], "", True, None)
    monkeypatch.setitem(environments._known, ID, spec)
    async with (
        open_pool(FakeBackend(), PoolLimits(1)) as pool,
        open_scripted_run(lambda asked: "done", sandboxes=pool) as run,
    ):
        await run.play(replace(request(ID), priority=7))
    assert [holder.priority for holder in holders] == [7]


def test_a_thousand_rollouts_share_twenty_sandboxes_in_turn(monkeypatch) -> None:
    started = list[str]()

    async def act(ctx: Context) -> float:
        await ctx.sandbox(SPEC)
        started.append(ctx.rollout_id)
        await anyio.sleep(1)
        return 1.0

    spec = EnvironmentSpec(ID, lambda: Patch(act, None), [Task.ask("patch it")], "", True, None)
    monkeypatch.setitem(environments._known, ID, spec)

    async def play() -> None:
        backend = FakeBackend()
        async with (
            open_pool(backend, PoolLimits(20), clock=anyio.current_time) as pool,
            open_scripted_run(lambda asked: "done", sandboxes=pool) as run,
        ):
            groups = [await run.manager.start(request(ID, k=10)) for _ in range(100)]
            for group in groups:
                await group.handed_on.wait()
            assert all(outcome.reward == 1.0 for group in groups for outcome in group.outcomes.values())
            stats = pool.stats()
            assert (stats.granted, stats.returned, stats.refused, stats.live) == (1000, 1000, 0, 0)
            assert 50 <= anyio.current_time() < 60  # every place is used all the time
        assert (backend.most, backend.live) == (20, 0)

    virtual_time.run(play)
    late = [abs(position - int(id.split("-")[1]) * 10) for position, id in enumerate(started)]
    assert max(late) < 200  # nobody is passed over for long: rollouts of a group come about when their group does
