"""Environments, engines, judges, agents and sandboxes by name: registered in code, or by entry points on demand."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from inspect import cleandoc
from typing import Generic, TypeAlias, TypeVar

from envhub.contracts.agent import Agent
from envhub.contracts.conversation import ContextStrategy
from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.engine import EngineOptions, Model
from envhub.contracts.environment import Environment, Resume
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.judge import GroupJudge, Judge, RewardFunction, is_group_judge
from envhub.contracts.policy import PolicyFactory
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.sandbox import SandboxBackend
from envhub.contracts.task import Task
from envhub.errors import UnknownName, UsageError

T = TypeVar("T")
Tasks: TypeAlias = Sequence[Task] | Callable[[], Iterable[Task]]
EnvironmentFactory: TypeAlias = Callable[..., Environment]
F = TypeVar("F", bound=EnvironmentFactory)
Requirements: TypeAlias = tuple[str, ...]  # packages, as pip names them, sorted

ID_RULE = re.compile(r"(?:[\w.-]+/)?[\w.-]+-v\d+")  # Gymnasium's [namespace/]name-vN


class Registry(Generic[T]):
    """Things of one kind by name. An entry point is imported when its name is first asked for, and its failure to
    import is the caller's error, not a warning."""

    def __init__(self, kind: str, group: str, *, hint: str = "", decorator: str = "") -> None:
        self.kind = kind
        self._group = group
        self._hint = hint
        self._decorator = decorator  # which alone registers things of this kind; "": an entry point is the thing itself
        self._known: dict[str, T] = {}

    def register(self, name: str, thing: T) -> None:
        """
        Raises:
            UsageError: the name is taken.
        """
        if self._known.setdefault(name, thing) is not thing:
            raise UsageError(f"{self.kind} '{name}' is registered already; choose another name")

    def get(self, name: str) -> T:
        """
        Raises:
            UnknownName: with the nearest names.
            UsageError: its entry point loads something that does not register the name.
        """
        if name not in self._known:
            self._load(name)
        return self._known[name]

    def names(self) -> list[str]:
        """All names, sorted, without importing anything."""
        return sorted({*self._known, *self._entry_points()})

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self._group)}

    def _load(self, name: str) -> None:
        point = self._entry_points().get(name)
        if point is None:
            raise UnknownName.of(self.kind, name, self.names(), self._hint)
        try:
            thing = point.load()
        except ModuleNotFoundError as error:
            needs = f"{self.kind} '{name}' needs the package '{error.name}', which is not installed"
            raise UsageError(f"{needs}; install it, or the extra of envhub-rl that brings it") from error
        if not self._decorator:
            self._known.setdefault(name, thing)  # unless its module registered it
        elif name not in self._known:
            raise UsageError(
                f"entry point '{name}' loads {point.value}, which registers no {self.kind} '{name}'; "
                f"decorate it with {self._decorator}('{name}')"
            )


@dataclass(frozen=True, slots=True)
class EnvironmentSpec:
    """A registered environment: how to make one, and its tasks."""

    id: EnvironmentId
    factory: EnvironmentFactory
    tasks: Tasks
    description: str
    needs_sandbox: bool  # it leases sandboxes: where no isolating back end works, it can't run
    max_live: int | None  # the most instances at once; None: no cap of its own
    max_critical_steps: int | None = None  # of an episode; None: the request's limit alone
    resume: Resume = Resume.RESTART
    group_judge: GroupJudge | None = None  # of groups that name none
    context: str = "none"  # strategy of rollouts that name none
    requires: Requirements = ()  # packages that it needs beside envhub's own

    def load_tasks(self) -> tuple[Task, ...]:
        """All tasks, in order.

        Raises:
            UsageError: none, or two with one id.
        """
        tasks = tuple(self.tasks() if callable(self.tasks) else self.tasks)
        if not tasks:
            raise UsageError(f"environment '{self.id}' has no tasks; register it with tasks=[...]")
        seen: set[str] = set()
        for task in tasks:
            if task.id in seen:
                raise UsageError(f"environment '{self.id}' has two tasks with id '{task.id}'; make task ids unique")
            seen.add(task.id)
        return tasks


EngineFactory: TypeAlias = Callable[[EngineOptions], Model | PolicyFactory]
environments: Registry[EnvironmentSpec] = Registry(
    "environment", "envhub.environments", hint="envhub env list", decorator="@envhub.environment"
)
engines: Registry[EngineFactory] = Registry("engine", "envhub.engines")
judges: Registry[Judge | RewardFunction] = Registry("judge", "envhub.judges")
group_judges: Registry[GroupJudge] = Registry("group judge", "envhub.group_judges")
agents: Registry[Callable[[], Agent]] = Registry("agent", "envhub.agents")
contexts: Registry[Callable[[], ContextStrategy]] = Registry("context strategy", "envhub.contexts")
filters: Registry[Callable[..., Callable[[ClosedGroup], bool]]] = Registry("group filter", "envhub.filters")
sandboxes: Registry[Callable[[], SandboxBackend]] = Registry("sandbox", "envhub.sandboxes", hint="envhub doctor")


def context_strategy(request: RolloutRequest) -> Callable[[], ContextStrategy]:
    """What makes a rollout's context strategy: the request's, else its environment's.

    Raises:
        UnknownName: no such strategy, or no such environment.
    """
    return contexts.get(request.context or environments.get(request.environment.id).context)


def sandbox_backends() -> dict[str, Callable[[], SandboxBackend]]:
    """How to make a back end of each name; none is imported before it is made."""

    def make(name: str) -> SandboxBackend:
        return sandboxes.get(name)()

    return {name: partial(make, name) for name in sandboxes.names()}


def environment(
    id: str,
    *,
    tasks: Tasks,
    needs_sandbox: bool = False,
    max_live: int | None = None,
    max_critical_steps: int | None = None,
    resume: Resume | str | None = None,
    group_judge: GroupJudge | None = None,
    context: str = "none",
    requires: Sequence[str] = (),
) -> Callable[[F], F]:
    """Registers a class or function that makes an Environment, under [namespace/]name-vN, and returns it unchanged.

    `resume` says how its rollouts go on after the death of their process. None: one that needs a sandbox restarts, as
    its files are gone; any other takes its recorded steps again.

    `group_judge` scores the members of a group against each other, once each has its own score.

    `context` names what agents do where a conversation grows as long as the model's context, unless a run says it.

    `requires` names packages, as pip does, that it needs beside what envhub needs itself: its rollouts are then in
    worker processes that have them. The module that registers it is imported without them.

    Raises:
        UsageError: the id breaks the rule or is taken, a limit is below 1, there is no such way to resume, or no such
            group judge.
    """
    if not ID_RULE.fullmatch(id):
        raise UsageError(f"environment id '{id}' must read [namespace/]name-vN, like demo/sums-v0")
    if max_live is not None and max_live < 1:
        raise UsageError(f"max_live of environment '{id}' is {max_live}; it must be at least 1, or None for no cap")
    if max_critical_steps is not None and max_critical_steps < 1:
        raise UsageError(f"max_critical_steps of environment '{id}' is {max_critical_steps}; it must be at least 1")

    if group_judge is not None and not is_group_judge(group_judge):
        raise UsageError(f"group_judge of environment '{id}' is {group_judge!r}, which has no score_group(inputs, ctx)")

    if isinstance(requires, str):
        raise UsageError(f"requires of environment '{id}' is '{requires}'; it must be a list, like ['{requires}']")

    how = _resume(id, resume) if resume else Resume.RESTART if needs_sandbox else Resume.RERUN_TOOLS

    def register(factory: F) -> F:
        description = cleandoc(factory.__doc__ or "").partition("\n")[0]  # its own: never one that a class inherits
        environments.register(
            id,
            EnvironmentSpec(
                EnvironmentId(id),
                factory,
                tasks,
                description,
                needs_sandbox,
                max_live,
                max_critical_steps,
                how,
                group_judge,
                context,
                tuple(sorted(requires)),
            ),
        )
        return factory

    return register


def _resume(id: str, asked: str) -> Resume:
    if asked not in set(Resume):
        raise UsageError(f"environment '{id}' can't resume by '{asked}'; choose one of {', '.join(Resume)}")
    return Resume(asked)


def make(id: str, **kwargs: object) -> Environment:
    """A new instance of a registered environment.

    Raises:
        UnknownName: no such environment.
    """
    return environments.get(id).factory(**kwargs)
