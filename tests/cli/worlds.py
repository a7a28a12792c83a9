"""Environments of a user's own, as `--load` brings them."""

import sys
import time
from dataclasses import replace

import anyio

import envhub
from envhub import Action, EnvironmentRef, JudgeInput, Message, Observation, StepResult, Task
from envhub.contracts.engine import EngineOptions, Model
from envhub.contracts.ids import EnvironmentId
from envhub.engines import scripted
from envhub.registry import engines

SUMS = [Task.ask(f"What is {a} + 1?", a + 1, id=f"{a}+1") for a in range(5)]


class Slow(envhub.Environment):
    """Ends with its first step, after a while."""

    async def reset(self, task: Task, *, seed: int, ctx: envhub.Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        await anyio.sleep(2.0)
        return StepResult(reward=1.0, terminated=True)


class Family(envhub.Environment):
    """Ends with its first step, once two children have played the same task."""

    async def reset(self, task: Task, *, seed: int, ctx: envhub.Context) -> Observation:
        self.ctx = ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        child = replace(self.ctx.request, environment=EnvironmentRef(EnvironmentId("test/fastidious-v0")))
        await self.ctx.rollouts([child, child])
        return StepResult(reward=1.0, terminated=True)


class Endless(envhub.Environment):
    """Goes on as long as anybody acts."""

    async def reset(self, task: Task, *, seed: int, ctx: envhub.Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(Observation((Message.user("go on"),)))


class Held(envhub.Environment):
    """Ends with its first step, once there is a file `go`."""

    async def reset(self, task: Task, *, seed: int, ctx: envhub.Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        while not await anyio.Path("go").exists():  # noqa: ASYNC110  # another process makes it
            await anyio.sleep(0.02)
        return StepResult(reward=1.0, terminated=True)


def sluggish(options: EngineOptions) -> Model:
    """Takes a while to load, and says when it begins."""
    sys.stderr.write("loading\n")
    sys.stderr.flush()
    time.sleep(0.5)
    return scripted.load(options)


def fastidious(input: JudgeInput) -> float:
    if float(input.response) == input.task.answer:
        return 1.0
    raise ConnectionError("the judge is down")


def undecided(input: JudgeInput) -> float:
    return float("nan")


engines.register("sluggish", sluggish)
envhub.environment("test/slow-v0", tasks=SUMS)(Slow)
envhub.environment("test/family-v0", tasks=SUMS)(Family)
envhub.environment("test/endless-v0", tasks=SUMS)(Endless)
envhub.environment("test/held-v0", tasks=[Task.ask("Wait."), Task.ask("Wait again.")])(Held)


@envhub.environment("test/fastidious-v0", tasks=SUMS)
def fastidious_sums() -> envhub.Environment:
    """Judges right answers only."""
    return envhub.SingleTurn(fastidious)


@envhub.environment("test/undecided-v0", tasks=SUMS)
def undecided_sums() -> envhub.Environment:
    """Its judge gives no number."""
    return envhub.SingleTurn(undecided)
