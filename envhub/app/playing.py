"""A job played to its end, from a program: `await play(job)`, or `run(environment)` where no loop runs."""

import asyncio
from dataclasses import dataclass
from importlib.util import find_spec

import anyio

from envhub.app.live_run import open_run, open_sandboxes
from envhub.app.settings import Settings
from envhub.app.traces import stored_members
from envhub.contracts.engine import EngineOptions
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberCounts
from envhub.contracts.outcome import Outcome
from envhub.contracts.rollout import Limits
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.rollouts.job import Job

LOOP = {"use_uvloop": find_spec("uvloop") is not None}  # of every event loop that envhub starts


@dataclass(frozen=True, slots=True)
class GroupResult:
    """One task and how its members ended, in order."""

    task: Task
    outcomes: tuple[Outcome, ...]

    @property
    def rewards(self) -> list[float | None]:
        """A reward a member; None where it has no valid score."""
        return [outcome.reward for outcome in self.outcomes]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run gave."""

    run_id: RunId
    database: str
    groups: tuple[GroupResult, ...]
    members: MemberCounts

    @property
    def rewards(self) -> list[list[float | None]]:
        """A list a group."""
        return [group.rewards for group in self.groups]


async def play(job: Job, settings: Settings = Settings()) -> RunResult:
    """Plays a job to its end and returns how its groups ended.

    Raises:
        UsageError: a name or a number that can't work, before anything starts.
    """
    async with (
        open_sandboxes(settings.sandbox) as backend,
        open_run(settings, job if backend else job.without_sandbox(), backend) as run,
    ):
        groups = await run.play()
    members = await stored_members(settings.database, run.id)
    results = tuple(
        GroupResult(group.request.rollout.task, tuple(outcome for _, outcome in sorted(group.outcomes.items())))
        for group in groups
    )
    return RunResult(run.id, settings.database, results, members)


def run(
    environment: str,
    *,
    groups: int = 1,
    k: int = 4,
    engine: str = "embedded",
    weights: str = "",
    agent: str = "tool-loop",
    judge: str = "",
    context: str = "",
    sandbox: str = "auto",
    sampling: Sampling = Sampling(max_tokens=128),
    limits: Limits = Limits(),
    seed: int = 0,
    database: str = "envhub.db",
) -> RunResult:
    """Runs `groups` groups of `k` rollouts in one environment and returns how they ended. Blocks; where a loop runs
    already, in a notebook say, `await envhub.play(envhub.Job(...), envhub.Settings(...))` does the same.

    Raises:
        UsageError: a name or a number that can't work, before anything starts, or a loop that runs already.
    """
    if _loop_runs():
        raise UsageError("envhub.run blocks, and a loop runs here already; await envhub.play(Job(...), Settings(...))")
    settings = Settings(
        database=database, seed=seed, engine=engine, engine_options=EngineOptions(weights=weights), sandbox=sandbox
    )
    job = Job((environment,), groups, k, agent, judge, sampling, limits, context=context)
    return anyio.run(play, job, settings, backend_options=LOOP)


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
