"""What is asked for: a rollout, or a group of K of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from envhub.contracts.ids import TRAINED, EnvironmentId, PolicyId
from envhub.contracts.messages import JsonValue
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError


@dataclass(frozen=True, slots=True)
class EnvironmentRef:
    """What crosses a process in place of a live environment."""

    id: EnvironmentId
    kwargs: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one rollout may spend; its end is then truncated(reason). `max_live` caps the rollouts of a tree that are
    alive at once, the root counted: one more is an error to the rollout that starts it, never a wait.

    Raises:
        UsageError: a limit that is not positive.
    """

    max_turns: int = 16
    max_tokens: int = 32_768  # sampled, over all turns
    deadline_s: float = 600.0  # from the start of the episode; its judge has as long again
    max_live: int = 64

    def __post_init__(self) -> None:
        for name in ("max_turns", "max_tokens", "deadline_s", "max_live"):
            if getattr(self, name) <= 0:
                raise UsageError(f"limit {name} is {getattr(self, name)}; it must be positive")


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One episode: who acts where, on what, within which limits."""

    environment: EnvironmentRef
    task: Task
    policy_id: PolicyId = TRAINED
    agent: str = "tool-loop"
    judge: str = ""  # "": the environment's own
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    trainable: bool = True  # False: recorded, excluded from the objective (a frozen sub-agent, say)


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """`k` members of one task. A member that fails and may be retried is tried `max_tries` times in all.

    Raises:
        UsageError: k or max_tries below 1.
    """

    rollout: RolloutRequest
    k: int = 4
    max_tries: int = 2

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k is {self.k}; a group needs at least 1 member")
        if self.max_tries < 1:
            raise UsageError(f"max_tries is {self.max_tries}; a member needs at least 1 try")
