"""Code that will not end, or starts what does not end, costs its own rollout a clear outcome and others nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial

import anyio
import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.events import RolloutEnded, RolloutStarted
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import ToolCall
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.policy import Action, PolicyInput
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.environments.tool_environment import ToolEnvironment
from envhub.errors import Boundary, Fault
from envhub.monitor.verify import verify
from envhub.registry import agents, environment
from envhub.testing import virtual_time
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from envhub.tokens.call_forms import HERMES
from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool
from tests.rollouts.worlds import ENDLESS, HANG

pytestmark = pytest.mark.anyio

GRACE_S = 0.05
SOON = Limits(deadline_s=0.1)


class Refusals:
    """Code that goes on whatever is thrown at it, until the test lets it end."""

    def __init__(self) -> None:
        self.over = False
        self.alive = 0

    async def refuse(self, swallowed: type[BaseException] = BaseException) -> None:
        self.alive += 1
        while not self.over:
            with suppress(swallowed):
                await anyio.sleep(0.002)
        self.alive -= 1


refusals = Refusals()


@pytest.fixture
async def let_go() -> AsyncIterator[None]:
    """At the end of the test, whatever refused to end ends."""
    refusals.over, refusals.alive = False, 0
    yield
    refusals.over = True
    with anyio.fail_after(30):
        while refusals.alive:
            await anyio.lowlevel.checkpoint()


class Stubborn(Environment):
    """Never lets go, at the place that its task names."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._where = task.id
        self._ctx = ctx
        await ctx.sandbox()
        if self._where == "reset":
            await refusals.refuse()
        if self._where == "judge":
            self.judge = StubbornJudge()
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._where == "step":
            await refusals.refuse()
        if self._where == "children":
            await self._ctx.rollouts([self._child("step"), self._child("reset")])
        if self._where == "crowd":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refusals.refuse)
        return StepResult(reward=1.0, terminated=True)

    async def close(self) -> None:
        if getattr(self, "_where", "") == "close":
            await refusals.refuse()

    def _child(self, where: str):
        return replace(self._ctx.request, task=Task.ask("go", id=where))


class StubbornJudge:
    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        await refusals.refuse()
        return Score(1.0)


PLACES = ("reset", "step", "crowd", "judge", "close", "children", "nowhere")


@environment("test/stubborn-v0", tasks=[Task.ask("go", id=where) for where in PLACES])
def stubborn() -> Environment:
    return Stubborn()


class StubbornAgent:
    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        await refusals.refuse()
        await ctx.policy().act(PolicyInput(observation.messages))


agents.register("test-stubborn", StubbornAgent)


class StubbornTools(Toolset):
    @tool(timeout_s=0.01)
    async def refuse(self) -> str:
        """Never end."""
        await refusals.refuse()
        return "done"


@environment("test/stubborn-tools-v0", tasks=[Task.ask("go")])
def stubborn_tools() -> Environment:
    return ToolEnvironment(StubbornTools, lambda input: 1.0)


def at(where: str, **changes: object) -> GroupRequest:
    return request("test/stubborn-v0", task=PLACES.index(where), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "blamed"),
    [
        (at("reset", limits=SOON), Boundary.ENVIRONMENT),
        (at("step", limits=SOON), Boundary.ENVIRONMENT),
        (at("crowd", limits=SOON), Boundary.ENVIRONMENT),
        (at("judge", limits=SOON), Boundary.JUDGE),
        (at("nowhere", limits=SOON, agent="test-stubborn"), Boundary.AGENT),
        (request("test/stubborn-tools-v0", limits=SOON), Boundary.ENVIRONMENT),
    ],
    ids=lambda given: given.rollout.task.id if isinstance(given, GroupRequest) else str(given),
)
async def test_code_that_swallows_cancellation_is_given_up(group: GroupRequest, blamed: Boundary, let_go: None) -> None:
    backend = FakeBackend()
    async with (
        open_pool(backend, PoolLimits(1)) as pool,
        open_scripted_run(lambda asked: two_calls(), max_running=1, sandboxes=pool, grace_s=GRACE_S) as run,
    ):
        with anyio.fail_after(10):
            (outcome,) = await run.play(group)
            (other,) = await run.play(at("nowhere"))
        assert refusals.alive
        assert (run.slots.free, pool.stats().live) == (1, 0)
        assert (await run.members()).drained
        assert not (await verify(run.store)).findings
    assert outcome.status is Status.FAILED
    assert outcome.failure is not None
    assert outcome.failure.boundary is blamed
    assert "swallows cancellation" in outcome.failure.message
    assert outcome.reward is None
    assert other.reward == 1.0


async def test_an_environment_that_does_not_close_is_given_up(let_go: None) -> None:
    async with (
        open_pool(FakeBackend(), PoolLimits(1)) as pool,
        open_scripted_run(lambda asked: "go", sandboxes=pool, grace_s=GRACE_S, close_s=GRACE_S) as run,
    ):
        with anyio.fail_after(10):
            outcome = await only(run, at("close"))
        assert pool.stats().live == 0
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.ENVIRONMENT
    assert "when it closes" in outcome.failure.message


async def test_a_group_can_be_cancelled_whatever_its_code_does(let_go: None) -> None:
    async with (
        open_pool(FakeBackend(), PoolLimits(4)) as pool,
        open_scripted_run(lambda asked: "go", sandboxes=pool, grace_s=GRACE_S) as run,
    ):
        with anyio.fail_after(10):
            group = await run.manager.start(at("children"))
            while refusals.alive < 2:
                await anyio.lowlevel.checkpoint()
            await run.manager.cancel(group.id)
        ended = {event.rollout_id: event.status for event in await run.events() if isinstance(event, RolloutEnded)}
        assert (run.slots.free, pool.stats().live) == (8, 0)
        assert (await run.members()).drained
    # The parent obeys: it gets the time that its children need to be given up.
    assert ended == {"test-0-0-0": Status.CANCELLED, "test-0-0-0.0": Status.FAILED, "test-0-0-0.1": Status.FAILED}


def test_the_process_ends_although_code_was_given_up() -> None:
    async def play() -> Outcome:
        async with open_scripted_run(lambda asked: "go", grace_s=GRACE_S) as run:
            return await only(run, request("test/walk-v0", agent="test-deaf", limits=SOON))

    refusals.over = False
    outcome = anyio.run(play)  # asyncio waits for all tasks at its end
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.AGENT


class Deaf:
    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        await refusals.refuse(asyncio.CancelledError)


agents.register("test-deaf", Deaf)


class Stray:
    """As code does whose own task was cancelled by another library."""

    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        raise asyncio.CancelledError


agents.register("test-stray", Stray)


async def test_a_cancellation_that_nobody_asked_for_fails_its_own_rollout_alone() -> None:
    async with open_scripted_run(lambda asked: "go") as run:
        with anyio.fail_after(10):
            outcome = await only(run, request("test/walk-v0", agent="test-stray"))
        assert run.slots.free == 8
        assert (await run.members()).drained
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.AGENT
    assert "nobody asked for" in outcome.failure.message


class Careless(Environment):
    """Starts a child, and ends without waiting for it; keeps what it did in `tasks`."""

    tasks: "list[asyncio.Task[Outcome]]" = []  # noqa: RUF012 - for the test to look at

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        child = replace(self._ctx.request, environment=EnvironmentRef(EnvironmentId("test/walk-v0")), task=hanging())
        self.tasks.append(asyncio.get_running_loop().create_task(self._ctx.rollout(child)))
        while self._ctx._live.tree.live < 2:  # type: ignore[attr-defined]
            await anyio.lowlevel.checkpoint()
        return StepResult(reward=1.0, terminated=True)


def hanging() -> Task:
    return request("test/walk-v0", task=HANG).rollout.task


@environment("test/careless-v0", tasks=[Task.ask("go")])
def careless() -> Environment:
    return Careless()


async def test_a_child_does_not_outlive_its_parent() -> None:
    Careless.tasks.clear()
    async with open_scripted_run(lambda asked: "go", grace_s=GRACE_S) as run:
        with anyio.fail_after(10):
            outcome = await only(run, request("test/careless-v0"))
        with pytest.raises(Fault, match="the episode is over"):
            await Careless.tasks[0]
        events = await run.events()
        assert run.slots.free == 8
        assert not (await verify(run.store)).findings
    order = [(event.rollout_id, event.status) for event in events if isinstance(event, RolloutEnded)]
    assert order == [("test-0-0-0.0", Status.CANCELLED), ("test-0-0-0", Status.FAILED)]
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.AGENT
    assert "await ctx.rollout" in outcome.failure.message


KEPT: list[tuple[Context, Environment, Observation]] = []


class Keeper:
    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        KEPT.append((ctx, environment, observation))


agents.register("test-keeper", Keeper)


def uses() -> Iterator[Callable[[Context, Environment, Observation], Awaitable[object]]]:
    yield lambda ctx, environment, observation: ctx.policy().act(PolicyInput(observation.messages))
    yield lambda ctx, environment, observation: ctx.rollout(ctx.request)
    yield lambda ctx, environment, observation: ctx.sandbox()
    yield lambda ctx, environment, observation: environment.step(Action(observation.messages[0], None))  # type: ignore[arg-type]
    yield lambda ctx, environment, observation: anyio.to_thread.run_sync(partial(ctx.log, "still here"))


async def test_what_an_episode_leaves_behind_can_do_no_more() -> None:
    KEPT.clear()
    async with open_scripted_run(lambda asked: "go") as run:
        await only(run, request("test/walk-v0", agent="test-keeper"))
        before = await run.events()
        for use in uses():
            with pytest.raises(Fault, match="the episode is over"):
                await use(*KEPT[0])
        assert await run.events() == before
        assert run.slots.free == 8


class Mirror(Environment):
    """Starts another one like itself before anything else, or one after the other without end."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        if task.id == "deep":
            await ctx.rollout(ctx.request)
        self._ctx = ctx
        self._id = task.id
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        leaf = replace(self._ctx.request, task=Task.ask("go", id="leaf"))
        while self._id == "long":
            await self._ctx.rollout(leaf)
        return StepResult(reward=1.0, terminated=True)


@environment("test/mirror-v0", tasks=[Task.ask("go", id="deep"), Task.ask("go", id="long")])
def mirror() -> Environment:
    return Mirror()


async def test_rollouts_that_start_each_other_without_end_meet_the_limit_of_their_tree() -> None:
    async with open_scripted_run(lambda asked: "go", max_running=2) as run:
        with anyio.fail_after(20):
            outcome = await only(run, request("test/mirror-v0", task=0, limits=Limits(max_live=20)))
        events = await run.events()
        assert run.slots.free == 2
        assert not (await verify(run.store)).findings
    assert sum(isinstance(event, RolloutStarted) for event in events) == 20
    assert sum(isinstance(event, RolloutEnded) for event in events) == 20
    deepest = outcome.tree()[-1]
    assert deepest.failure is not None
    assert "its limit is 20" in deepest.failure.message


def test_children_one_after_the_other_without_end_meet_the_budget_of_their_parent() -> None:
    async def play() -> Outcome:
        async with open_scripted_run(lambda asked: "go", max_running=2, latency_s=1) as run:
            with anyio.fail_after(20):
                outcome = await only(run, request("test/mirror-v0", task=1, limits=Limits(deadline_s=10)))
            assert run.slots.free == 2
            return outcome

    outcome = virtual_time.run(play)
    assert (outcome.status, outcome.truncated_by) == (Status.TRUNCATED, "deadline")
    assert len(outcome.children) > 1


@pytest.mark.parametrize(("task", "reason"), [(HANG, "deadline"), (ENDLESS, "turns")])
async def test_an_environment_that_never_ends_is_cut_and_others_go_on(task: int, reason: str) -> None:
    limits = Limits(deadline_s=0.2) if task == HANG else Limits(max_turns=5)
    async with open_scripted_run(lambda asked: "go", max_running=2) as run:
        with anyio.fail_after(20):
            endless = await run.manager.start(request("test/walk-v0", task=task, limits=limits))
            others = await run.play(request("test/walk-v0", k=4))
            await endless.handed_on.wait()
        assert run.slots.free == 2
    assert [other.reward for other in others] == [1.0] * 4
    assert endless.outcomes[0].truncated_by == reason


async def only(run: ScriptedRun, group: GroupRequest) -> Outcome:
    (outcome,) = await run.play(group)
    return outcome


def two_calls() -> str:
    return HERMES.write(*[ToolCall("", "refuse", {})] * 2)
