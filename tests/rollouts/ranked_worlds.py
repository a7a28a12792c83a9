"""Environments whose groups have judges, for the tests of those: of every kind of judge one."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace

import anyio

from envhub.contracts.context import Context, GroupContext
from envhub.contracts.environment import Environment, Observation
from envhub.contracts.ids import attempt_of
from envhub.contracts.judge import GroupJudge
from envhub.contracts.messages import Message
from envhub.contracts.policy import PolicyInput
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.registry import environment, group_judges
from tests.rollouts.worlds import ONE, WALK, Judged, walk_tasks


def said(input: JudgeInput) -> float:
    """The number in the answer."""
    found = re.search(r"\d+", input.response)
    assert found is not None
    return float(found[0])


def own(input: JudgeInput) -> float:
    assert input.score is not None
    return input.score.scalar


class Best:
    """1 for the best member, 0 for the others; what it was given is in the components."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        best = max(map(own, inputs))
        return [
            Score(float(own(input) == best), {"own": own(input), "iteration": input.iteration, "said": said(input)})
            for input in inputs
        ]


class Asking(Best):
    """Asks the policy, and a rollout of its own."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        await ctx.policy().act(PolicyInput((Message.user("which was the best?"),)))
        outcome = await ctx.rollout(replace(ctx.request, environment=WALK, task=walk_tasks()[ONE]))
        ctx.log("asked")
        scores = await super().score_group(inputs, ctx)
        return [replace(score, scalar=score.scalar + (outcome.reward or 0.0)) for score in scores]


class Flaky(Best):
    """Is down at first."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        if attempt_of(ctx.rollout_id) == 0:
            raise ConnectionError("the judge is down")
        return await super().score_group(inputs, ctx)


class Down:
    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        raise ConnectionError("the judge is down")


class Deadly:
    """Kills the process that it runs in."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        await anyio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class Slow:
    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        await anyio.sleep_forever()
        raise AssertionError


class Miscounting(Best):
    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        return (await super().score_group(inputs, ctx))[1:]


class Steady:
    """How much better than the first group of this task on average."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        mean = ctx.keep("mean", sum(map(own, inputs)) / len(inputs))
        assert isinstance(mean, float)
        return [Score(own(input) - mean, {"mean": mean}) for input in inputs]


JUDGES: dict[str, GroupJudge] = {
    "asking": Asking(),
    "best": Best(),
    "deadly": Deadly(),
    "down": Down(),
    "flaky": Flaky(),
    "miscounting": Miscounting(),
    "slow": Slow(),
    "steady": Steady(),
}
TASKS = [Task.ask("walk", id="one"), replace(Task.ask("walk", id="two"), metadata={"steps": 2})]


def ranked() -> Environment:
    return Judged(said)


for name, judge in JUDGES.items():
    environment(f"test/ranked-{name}-v0", tasks=TASKS, group_judge=judge)(ranked)
    group_judges.register(f"test-{name}", judge)


class Late(Judged):
    """Member 1 does not get there."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        if ctx.rollout_id.split("-")[-2] == "1":
            await anyio.sleep_forever()
        return await super().reset(task, seed=seed, ctx=ctx)


@environment("test/ranked-late-v0", tasks=TASKS, group_judge=JUDGES["asking"])
def late() -> Environment:
    return Late(said)


environment("test/unranked-v0", tasks=TASKS)(ranked)
