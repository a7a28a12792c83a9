"""Environments that the tests of this room play in."""

import asyncio
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import anyio
import numpy as np

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action, PolicyInput
from envhub.contracts.rollout import EnvironmentRef
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import Truncated
from envhub.registry import environment


class Unspeakable:
    def __repr__(self) -> str:
        raise RuntimeError


class Walk(Environment):
    """Ends after `steps` steps; each is worth 1. What breaks, and where, is in the task's metadata."""

    _broken: object = None

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._left = int(str(task.metadata.get("steps", 1)))
        self._broken = task.metadata.get("broken")
        self._ctx = ctx
        if self._broken == "reset":
            raise RuntimeError("the world is not there")
        if self._broken == "hang":
            await anyio.sleep_forever()
        if self._broken == "exit":
            raise SystemExit(3)
        if self._broken == "cancel":
            raise asyncio.CancelledError
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._broken == "step":
            raise RuntimeError("the ground gives way")
        if self._broken == "types":
            self._ctx.log("odd", thing=Unspeakable())
            return StepResult(reward=np.float32(1), terminated=re.match("a", "a"), truncated=None)  # type: ignore[arg-type]
        self._left -= 1
        return StepResult(Observation((Message.user("go on"),)), reward=1.0, terminated=self._left == 0)

    async def close(self) -> None:
        if self._broken == "close":
            raise Truncated("turns")


def walk_tasks() -> list[Task]:
    def task(id: str, **metadata: object) -> Task:
        return replace(Task.ask("walk", id=id), metadata=metadata)

    return [
        task("one"),
        task("three", steps=3),
        task("reset", broken="reset"),
        task("step", broken="step"),
        task("hang", broken="hang"),
        task("endless", steps=1_000_000),
        task("exit", broken="exit"),
        task("cancel", broken="cancel"),
        task("types", broken="types"),
        task("close", broken="close"),
    ]


@environment("test/walk-v0", tasks=walk_tasks)
def walk() -> Environment:
    return Walk()


@environment("test/stroll-v0", tasks=lambda: [walk_tasks()[number] for number in (ONE, THREE, STEP)])
def stroll() -> Environment:
    """A walk that always ends."""
    return Walk()


ONE, THREE, RESET, STEP, HANG, ENDLESS, EXIT, CANCEL, TYPES, CLOSE = range(10)


class Judged(Walk):
    """A walk that somebody judges."""

    def __init__(self, judge: object) -> None:
        self.judge = judge  # type: ignore[assignment]


def nan(input: JudgeInput) -> float:
    return float("nan")


def outage(input: JudgeInput) -> float:
    raise ConnectionError("the judge is down")


class SlowJudge:
    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        await anyio.sleep_forever()
        raise AssertionError


class TreeJudge:
    """Scores by a child rollout."""

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        child = await ctx.rollout(replace(ctx.request, environment=WALK, task=walk_tasks()[ONE]))
        return Score(child.reward or 0.0)


class AskingJudge:
    """Scores by what the policy itself says."""

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        action = await ctx.policy().act(PolicyInput((Message.user("was it good?"),)))
        return Score(float(bool(action.message.content)))


class CrowdJudge:
    """Asks the policy many times at once, as far as its budget goes."""

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        async def ask(number: int) -> None:
            with suppress(Truncated):
                await ctx.policy().act(PolicyInput((Message.user(f"question {number}"),)))

        async with anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(ask, number)
        return Score(1.0)


def boolean(input: JudgeInput) -> Score:
    return Score(True, {"correct": np.bool_(True)})


JUDGES = {
    "boolean": boolean,
    "crowd": CrowdJudge(),
    "asking": AskingJudge(),
    "nan": nan,
    "outage": outage,
    "slow": SlowJudge(),
    "tree": TreeJudge(),
}


@environment("test/judged-v0", tasks=[Task.ask("walk", id="one")])
def judged(judge: str = "nan") -> Environment:
    return Judged(JUDGES[judge])


WALK = EnvironmentRef(EnvironmentId("test/walk-v0"))


class Branching(Environment):
    """Starts as many children as its task says, each with one level less, then ends; worth the sum of their rewards."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        self._shape: Sequence[Sequence[object]] = task.metadata["shape"]  # type: ignore[assignment]
        self._lease = bool(task.metadata.get("sandbox"))
        self._work_s = float(str(task.metadata.get("work_s", 0)))
        self._serial = bool(task.metadata.get("serial"))
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._lease:
            await self._ctx.sandbox()
            await anyio.sleep(self._work_s)
        requests = [replace(self._ctx.request, task=branching_task(shape, self._lease)) for shape in self._shape]
        if self._serial:
            outcomes = tuple([await self._ctx.rollout(request) for request in requests])
        else:
            outcomes = await self._ctx.rollouts(requests)
        return StepResult(reward=1.0 + sum(outcome.reward or 0.0 for outcome in outcomes), terminated=True)


def branching_task(shape: object, sandbox: bool = False) -> Task:
    return replace(Task.ask("branch"), metadata={"shape": shape, "sandbox": sandbox})


@environment("test/branching-v0", tasks=[branching_task([(), ((),)])])
def branching() -> Environment:
    return Branching()
