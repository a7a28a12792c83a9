"""Job: what a run is to do, and the groups that this means."""

import random
from dataclasses import dataclass

from envhub.contracts.ids import EnvironmentId
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, Limits, RolloutRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.environments.check import preflight
from envhub.errors import UsageError
from envhub.registry import agents, environments, judges


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is to do: `groups` groups of `k` in each environment, in turn.

    Raises:
        UsageError: a count below 1, or no environment.
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
        if self.groups < 1:
            raise UsageError(f"groups is {self.groups}; it must be at least 1")

    async def check(self) -> None:
        """Finds what can't work before anything starts.

        Raises:
            UsageError: an unknown name, an environment without tasks, a judge that gives no finite number.
        """
        agents.get(self.agent)
        if self.judge:
            judges.get(self.judge)
        for name in self.environments:
            await preflight(environments.get(name))

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
