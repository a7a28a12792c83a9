"""Score, Judgement and JudgeInput: what judges give, and what they are given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envhub.contracts.messages import JsonValue, Message, Role
from envhub.contracts.task import Task
from envhub.contracts.usage import Usage
from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class Score:
    """The scalar that the trainer sees and the named components it came from.

    Raises:
        UsageError: the scalar or a component is NaN or infinite.
    """

    scalar: float
    components: Mapping[str, float] = field(default_factory=dict)
    explanation: str = ""
    durations: Mapping[str, float] = field(default_factory=dict)  # seconds, by component
    # What single turns earned, by their index: parts of the scalar, whose rest is earned at the end. Those of a judge
    # that gives none are what the environment's steps gave.
    turn_rewards: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Comparisons and numpy give other types: what is recorded is what was promised.
        object.__setattr__(self, "scalar", _finite("scalar", self.scalar))
        object.__setattr__(self, "components", {name: _finite(name, part) for name, part in self.components.items()})
        object.__setattr__(self, "durations", {name: float(part) for name, part in self.durations.items()})
        if self.turn_rewards:
            rewards = {int(turn): _finite(f"turn {turn}", part) for turn, part in self.turn_rewards.items()}
            object.__setattr__(self, "turn_rewards", rewards)


def last_response(messages: Sequence[Message]) -> str:
    """The text of the last assistant message; empty where there is none."""
    return next((message.content for message in reversed(messages) if message.role is Role.ASSISTANT), "")


def _finite(name: str, value: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"score '{name}' is {value}; a judge must give finite numbers, or raise")
    return number


@dataclass(frozen=True, slots=True)
class JudgeInput:
    """A finished episode as judges see it. Picklable."""

    task: Task
    messages: tuple[Message, ...]  # the whole conversation, prompt included
    episode_return: float = 0.0  # sum of the rewards of all steps
    truncated_by: str = ""
    info: Mapping[str, object] = field(default_factory=dict)  # of the last step
    given: int = 0  # messages that the agent was given before it acted; an assistant's among them are examples
    iteration: int = 0  # the newest version of its policy that the trainer had announced when it was judged
    usage: Usage = Usage()  # of the episode: what its judge spends is not in it
    score: Score | None = None  # for group judges only: what this member's own judge gave
    turns: tuple[int, ...] = ()  # of each step of the agent, the turn that sampled its action; -1: none did

    @property
    def response(self) -> str:
        """The text of the agent's last message; empty where it wrote none."""
        return last_response(self.messages[self.given :])


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge of a group made of its members."""

    members: tuple[int, ...]
    scores: tuple[Score, ...] = ()  # theirs from now on; none: the judge gave none, and the members end as it did
    kept: Mapping[str, JsonValue] = field(default_factory=dict)  # for the next groups of the same task
