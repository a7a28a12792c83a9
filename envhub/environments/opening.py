"""The opening of an episode: the messages before the agent's first action."""

from collections.abc import Sequence

from envhub.contracts.messages import Message, Role
from envhub.contracts.task import Task
from envhub.errors import UsageError


def opening(task: Task, *, system: str = "", examples: Sequence[Message] = ()) -> tuple[Message, ...]:
    """The system message, of the environment or of the task, then the examples, then the task.

    Raises:
        UsageError: both have a system message.
    """
    own = tuple(message for message in task.prompt if message.role is Role.SYSTEM)
    rest = tuple(message for message in task.prompt if message.role is not Role.SYSTEM)
    if own and system:
        raise UsageError(f"task '{task.id}' and its environment both have a system message; keep one of them")
    return (*own, *([Message.system(system)] if system else []), *examples, *rest)
