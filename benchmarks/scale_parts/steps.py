"""The load: episodes of four turns that any worker can take over, and a model that only waits."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.null_parts.load import K, Load, null_platform
from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits, RolloutRequest
from envhub.contracts.task import Task
from envhub.registry import environment
from envhub.rollouts.platform import Platform
from envhub.rollouts.recorder import Recording

TURNS = 4
STEPS = "bench/steps-v0"
TASK = Task.ask("question " + "q" * 22, id="one")
FACTORY = f"{__name__}:platform"


class Steps(Environment):
    """Says the same after each of its steps; worth 1 at the end."""

    def __init__(self, turns: int = TURNS) -> None:
        self._left = turns

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        self._left -= 1
        return StepResult(Observation((Message.user("go on " + "." * 30),)), float(not self._left), not self._left)


environment(STEPS, tasks=[TASK], resume="rerun_tools")(Steps)


def group(turns: int = TURNS) -> GroupRequest:
    chosen = EnvironmentRef(STEPS, {"turns": turns})
    return GroupRequest(RolloutRequest(chosen, TASK, limits=Limits(max_turns=turns)), k=K)


@asynccontextmanager
async def platform(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """`settings`: seconds a turn, and how many rollouts may act at once."""
    latency_s, limit = settings.decode().split()
    yield null_platform(Load(0, float(latency_s), 0.0), recorder, int(limit))
