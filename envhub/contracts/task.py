"""Task: one problem, with its prompt and, where there is one, its answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envhub.contracts.ids import TaskId
from envhub.contracts.messages import JsonValue, Message
from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class Task:
    """One problem. `seed` fixes what the environment draws at random; None leaves it to the run.

    Raises:
        UsageError: the id or the prompt is empty.
    """

    id: TaskId
    prompt: tuple[Message, ...]
    answer: JsonValue = None
    metadata: Mapping[str, JsonValue] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise UsageError("a task has an empty id; give each task of an environment an id of its own")
        if not self.prompt or not any(message.content.strip() for message in self.prompt):
            raise UsageError(f"task '{self.id}' has no prompt; give it at least one message with content")

    @classmethod
    def ask(cls, question: str, answer: JsonValue = None, *, id: str = "") -> "Task":
        """A task of one user message; its id is the question unless given."""
        return cls(TaskId(id or question), (Message.user(question),), answer)
