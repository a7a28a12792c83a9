"""Job: what a run is to do, and the groups that this means."""

import random
from dataclasses import dataclass, replace

from envhub.contracts.environment import Environment
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.judge import Judge, RewardFunction
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits, RolloutRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.environments.check import preflight
from envhub.errors import UsageError
from envhub.registry import EnvironmentSpec, agents, environments, judges
from envhub.rollouts.outside import AGENT as OUTSIDE

NO_ISOLATION = (
    "no isolating back end works here (`envhub doctor` says why); --sandbox process runs it without isolation"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is to do: `groups` groups of `k` in each environment, in turn.

    Raises:
        UsageError: a count below 1, no environment, or one twice.
    """

    environments: tuple[str, ...]
    groups: int = 1
    k: int = 4
    agent: str = "tool-loop"
    judge: str = ""  # "": each environment's own
    sampling: Sampling = Sampling(max_tokens=128)
    limits: Limits = Limits()
    max_tries: int = 2

    def __post_init__(self) -> None:
        if not self.environments:
            raise UsageError("no environment is named; `envhub env list` shows them")
        for name in ("groups", "k", "max_tries"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if len(set(self.environments)) < len(self.environments):
            raise UsageError(f"an environment is named twice in {', '.join(self.environments)}; ask for more groups")

    def without_sandbox(self) -> "Job":
        """What of it can run where no sandbox is to be had.

        Raises:
            UsageError: nothing.
        """
        left = tuple(name for name in self.environments if not environments.get(name).needs_sandbox)
        if not left:
            raise UsageError(f"{', '.join(self.environments)} needs a sandbox and {NO_ISOLATION}")
        return replace(self, environments=left)

    async def check(self) -> None:
        """Finds what can't work before anything starts.

        Raises:
            UsageError: an unknown name, an environment without tasks, a judge that gives no finite number.
        """
        if self.agent == OUTSIDE:
            raise UsageError(
                f"agent '{OUTSIDE}' waits for programs that open rollouts themselves, through `envhub serve`; "
                "a job needs one that acts, like tool-loop"
            )
        agents.get(self.agent)
        judge = judges.get(self.judge) if self.judge else None
        for spec in [environments.get(name) for name in self.environments]:
            await preflight(_judged_by(judge, spec) if judge else spec)

    def requests(self, seed: int) -> list[GroupRequest]:
        """All groups, in the order of submission: the same for the same seed, so that a run can be gone on with."""
        decks = {name: self._deck(name, seed) for name in self.environments}
        return [self._request(name, decks[name][turn]) for turn in range(self.groups) for name in self.environments]

    def _deck(self, name: str, seed: int) -> list[Task]:
        """Tasks for every group: all of them in random order, again and again."""
        tasks = environments.get(name).load_tasks()
        shuffler = random.Random(f"{seed}/{name}")
        deck: list[Task] = []
        while len(deck) < self.groups:
            deck += shuffler.sample(tasks, len(tasks))
        return deck

    def _request(self, name: str, task: Task) -> GroupRequest:
        rollout = RolloutRequest(
            environment=EnvironmentRef(EnvironmentId(name)),
            task=task,
            agent=self.agent,
            judge=self.judge,
            sampling=self.sampling,
            limits=self.limits,
        )
        return GroupRequest(rollout, self.k, self.max_tries)


def _judged_by(judge: Judge | RewardFunction, spec: EnvironmentSpec) -> EnvironmentSpec:
    def make(**kwargs: object) -> Environment:
        made = spec.factory(**kwargs)
        made.judge = judge
        return made

    return replace(spec, factory=make)
