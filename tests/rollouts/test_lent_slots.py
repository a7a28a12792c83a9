"""A rollout that lent its slot acts again only once it has one, and its time stands still until then."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import anyio
import pytest

from envhub.contracts.context import Context
from envhub.contracts.engine import Engine, EngineChunk, EngineRequest
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.registry import environment
from envhub.rollouts.group import RolloutGroup
from envhub.testing import virtual_time
from envhub.testing.runs import open_scripted_run, request
from tests.rollouts.worlds import ONE, WALK, walk_tasks

TURN_S = 1.0


@dataclass(slots=True)
class Acting:
    """How many rollouts act, and how many did at most."""

    now: int = 0
    most: int = 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1


acting = Acting()


class Watched:
    """An engine whose generations are counted."""

    def __init__(self, inner: Engine) -> None:
        self.context_tokens = inner.context_tokens
        self._inner = inner

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        with acting.one_more():
            async for chunk in self._inner.generate(request):
                yield chunk

    async def close(self) -> None:
        await self._inner.close()


class Delegating(Environment):
    """Two actions long: the first one waits for a child, which is the environment that its task names."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        self._waited = False
        self._child = WALK if task.answer is None else EnvironmentRef(EnvironmentId(str(task.answer)))
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._waited:
            return StepResult(reward=1.0, terminated=True)
        self._waited = True
        await self._ctx.rollout(replace(self._ctx.request, environment=self._child, task=walk_tasks()[ONE]))
        return StepResult(Observation((Message.user("go on"),)))


class SlowJudge:
    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        await anyio.sleep(2 * TURN_S)
        return Score(1.0)


class Busy(Environment):
    """Takes two turns' time to begin, and as long to be judged."""

    judge = SlowJudge()

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        await anyio.sleep(2 * TURN_S)
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(terminated=True)


class Solitary(Environment):
    """Takes a while to begin; one lives at a time."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        with acting.one_more():
            await anyio.sleep(TURN_S)
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(reward=1.0, terminated=True)


environment("test/delegating-v0", tasks=[Task.ask("go"), Task.ask("go", "test/busy-v0", id="busy")])(Delegating)
environment("test/busy-v0", tasks=[Task.ask("go")])(Busy)
environment("test/solitary-v0", tasks=[Task.ask("go")], max_live=1)(Solitary)


def walk(steps: int) -> GroupRequest:
    whole = request("test/walk-v0")
    task = replace(whole.rollout.task, metadata={"steps": steps})
    return replace(whole, rollout=replace(whole.rollout, task=task))


def play(*groups: GroupRequest, max_running: int) -> list[Outcome]:
    """The outcomes of all members, of groups that are submitted in that order."""

    async def run() -> list[Outcome]:
        async with open_scripted_run(
            lambda asked: "go", max_running=max_running, latency_s=TURN_S, around=Watched
        ) as run:
            started: list[RolloutGroup] = []
            for group in groups:
                started.append(await run.manager.start(group))
                await anyio.sleep(TURN_S / 100)
            await run.manager.finish()
            assert run.slots.free == max_running
            return [outcome for group in started for outcome in group.outcomes.values()]

    acting.now = acting.most = 0
    return virtual_time.run(run)


def test_who_waited_for_a_child_acts_again_only_with_a_slot() -> None:
    outcomes = play(request("test/delegating-v0"), walk(8), max_running=1)
    assert [outcome.reward for outcome in outcomes] == [1.0, 8.0]
    assert acting.most == 1


def test_waiting_for_the_slot_that_was_lent_is_not_the_episodes_time() -> None:
    delegating = request("test/delegating-v0", limits=Limits(deadline_s=4 * TURN_S))
    outcomes = play(delegating, walk(8), max_running=1)
    assert [outcome.status for outcome in outcomes] == [Status.COMPLETED] * 2


def test_who_waited_for_its_environment_begins_only_with_a_slot() -> None:
    outcomes = play(request("test/solitary-v0", k=2), walk(8), walk(8), max_running=2)
    assert [outcome.reward for outcome in outcomes] == [1.0, 1.0, 8.0, 8.0]
    assert acting.most == 2


@pytest.mark.parametrize(("turns", "status"), [(6.5, Status.TRUNCATED), (7.5, Status.COMPLETED)])
def test_what_a_child_and_its_judge_take_is_its_parents_time(turns: float, status: Status) -> None:
    """A turn of its own, five of the child's, and another one of its own."""
    (outcome,) = play(request("test/delegating-v0", task=1, limits=Limits(deadline_s=turns * TURN_S)), max_running=1)
    assert outcome.status is status


def test_a_pause_that_holds_its_child_is_not_the_episodes_time() -> None:
    async def run() -> Outcome:
        async with open_scripted_run(lambda asked: "go", latency_s=TURN_S) as run:
            group = await run.manager.start(request("test/delegating-v0", limits=Limits(deadline_s=5 * TURN_S)))
            await anyio.sleep(1.5 * TURN_S)  # the child is asked
            await run.manager.pause()
            await anyio.sleep(100 * TURN_S)
            await run.manager.resume()
            await run.manager.finish()
            return group.outcomes[0]

    outcome = virtual_time.run(run)
    assert (outcome.status, outcome.reward) == (Status.COMPLETED, 1.0)
