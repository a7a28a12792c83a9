"""What the tasks over worlds have in common."""

from collections.abc import Callable, Iterable

from envhub.contracts.ids import TaskId
from envhub.contracts.messages import JsonValue, Message
from envhub.contracts.task import Task
from envhub.environments.research.world import World, world

WORLDS = range(8)  # of the registered environments


def tasks_over(worlds: Iterable[int], tasks_of: Callable[[World], Iterable[Task]]) -> list[Task]:
    """The tasks of the worlds of these seeds."""
    return [task for seed in worlds for task in tasks_of(world(seed))]


def about(world: World, name: str, question: str, answer: JsonValue) -> Task:
    """A task whose pages are those of a world."""
    return Task(TaskId(f"{name}-{world.seed}"), (Message.user(question),), answer, {"world": world.seed})
