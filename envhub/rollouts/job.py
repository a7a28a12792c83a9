"""Job: what a run is to do, and the groups that this means."""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from envhub.contracts.agent import Agent, is_equipped
from envhub.contracts.environment import Environment
from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyId
from envhub.contracts.judge import GroupJudge, Judge, RewardFunction
from envhub.contracts.rollout import EnvironmentRef, FilterRef, GroupRequest, Limits, RolloutRequest
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.environments.check import preflight
from envhub.environments.requirements import equipped
from envhub.errors import UsageError
from envhub.registry import EnvironmentSpec, agents, contexts, environments, group_judges, judges
from envhub.rollouts import filters
from envhub.rollouts.case import check_policies
from envhub.rollouts.outside import AGENT as OUTSIDE

NO_ISOLATION = (
    "no isolating back end works here (`envhub doctor` says why); --sandbox process runs it without isolation"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What a run is to do: `groups` groups of `k` in each environment, in turn. Fields that GroupRequest has as well
    mean the same.

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
    extra: int = 0
    min_k: int = 1
    refills: int = 0
    group_deadline_s: float | None = None
    filters: tuple[FilterRef, ...] = ()
    group_judge: str = ""  # "": each environment's own, if it has one
    context: str = ""  # "": each environment's own strategy
    spares: int = 0  # more groups of each environment, one for each that is too short or that a filter refuses

    def __post_init__(self) -> None:
        if not self.environments:
            raise UsageError("no environment is named; `envhub env list` shows them")
        for name, least in (("groups", 1), ("k", 1), ("max_tries", 1), ("spares", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least {least}")
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

    async def check(self, policies: Collection[PolicyId] = (TRAINED,)) -> None:
        """Finds what can't work, in a run that has those policies, before anything starts.

        Raises:
            UsageError: an unknown name, an environment without tasks, a judge that gives no finite number or lacks a
                policy, an agent that can't act in an environment.
        """
        if self.agent == OUTSIDE:
            raise UsageError(
                f"agent '{OUTSIDE}' waits for programs that open rollouts themselves, through `envhub serve`; "
                "a job needs one that acts, like tool-loop"
            )
        agent = agents.get(self.agent)()
        if self.context:
            contexts.get(self.context)
        group_judge = group_judges.get(self.group_judge) if self.group_judge else None
        for reference in self.filters:
            filters.check(reference)
        Course(self, seed=0)  # makes its requests, whose numbers may not fit together
        judge = judges.get(self.judge) if self.judge else None
        for spec in [environments.get(name) for name in self.environments]:
            judged = _judged_by(judge, spec) if judge else spec
            if not equipped(spec):  # no instance can be made here, but where its workers are
                spec.load_tasks()
                continue
            await preflight(judged)
            await _check_parts(judged, agent, group_judge or spec.group_judge, policies)

    def requests(self, name: str, seed: int) -> list[GroupRequest]:
        """All groups of an environment and its spares: the same for the same seed, so that a run can be gone on with.
        The tasks come in random order, again and again."""
        tasks = environments.get(name).load_tasks()
        shuffler = random.Random(f"{seed}/{name}")
        deck: list[Task] = []
        while len(deck) < self.groups + self.spares:
            deck += shuffler.sample(tasks, len(tasks))
        return [self.request(name, task) for task in deck[: self.groups + self.spares]]

    def request(self, name: str, task: Task) -> GroupRequest:
        """A group of that task."""
        rollout = RolloutRequest(
            environment=EnvironmentRef(EnvironmentId(name)),
            task=task,
            agent=self.agent,
            judge=self.judge,
            context=self.context,
            sampling=self.sampling,
            limits=self.limits,
        )
        return GroupRequest(
            rollout,
            self.k,
            self.max_tries,
            self.extra,
            self.min_k,
            self.refills,
            self.group_deadline_s,
            filters=self.filters,
            group_judge=self.group_judge,
        )


class Course:
    """What is left of a job. `started` and `dropped`: its groups so far, by environment; a dropped one closed too
    short, or was refused by a filter."""

    def __init__(
        self,
        job: Job,
        seed: int,
        started: Mapping[EnvironmentId, int] = MappingProxyType({}),
        dropped: Mapping[EnvironmentId, int] = MappingProxyType({}),
    ) -> None:
        ids = [EnvironmentId(name) for name in job.environments]
        self._lacking = {id: job.groups - started.get(id, 0) + dropped.get(id, 0) for id in ids}
        self._left = {id: iter(job.requests(id, seed)[started.get(id, 0) :]) for id in ids}

    def first(self) -> Iterator[GroupRequest]:
        """The groups to start now, environments in turn."""
        for turn in range(max(self._lacking.values())):
            for id, lacking in self._lacking.items():
                if turn < lacking and (request := self.spare(id)):
                    yield request

    def spare(self, id: EnvironmentId) -> GroupRequest | None:
        """The next group of an environment; None where all its spares are used up."""
        return next(self._left[id], None)


async def _check_parts(
    spec: EnvironmentSpec, agent: Agent, group_judge: GroupJudge | None, policies: Collection[PolicyId]
) -> None:
    environment = spec.factory()
    try:
        check_policies(environment.judge, "its judge", policies)
        check_policies(group_judge, "the judge of its groups", policies)
        if is_equipped(agent):
            agent.equip(environment)
    except UsageError as error:
        raise UsageError(f"environment '{spec.id}' can't run so: {error}") from error
    finally:
        await environment.close()


def _judged_by(judge: Judge | RewardFunction, spec: EnvironmentSpec) -> EnvironmentSpec:
    def make(**kwargs: object) -> Environment:
        made = spec.factory(**kwargs)
        made.judge = judge
        return made

    return replace(spec, factory=make)
