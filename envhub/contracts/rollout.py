"""What is asked for: a rollout, or a group of K of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

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
    """What one rollout may spend; its end is then truncated(reason). Of tokens, steps and tool calls, what the rollouts
    below it spend counts as well, but for what its judge starts: that is on a budget of the judge's own, as large.

    Critical steps are the longest chain of actions: its own, and of children side by side those of the longest
    (arXiv:2602.02276 §3). `max_live` caps the rollouts of a tree that are alive at once, the root counted: one more is
    an error to the rollout that starts it, never a wait.

    Raises:
        UsageError: a limit that is not positive.
    """

    max_turns: int = 16
    max_tokens: int = 32_768  # sampled, over all turns
    deadline_s: float = 600.0  # from the start of the episode; its judge has as long again
    max_live: int = 64
    max_steps: int | None = None  # None: no limit
    max_critical_steps: int | None = None
    max_tool_calls: int | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not value > 0:
                raise UsageError(f"limit {limit.name} is {value}; it must be positive")


@dataclass(frozen=True, slots=True)
class RolloutRequest:
    """One episode: who acts where, on what, within which limits."""

    environment: EnvironmentRef
    task: Task
    policy_id: PolicyId = TRAINED
    agent: str = "tool-loop"
    judge: str = ""  # "": the environment's own
    context: str = ""  # what the agent does where its conversation grows too long; "": the environment's own strategy
    sampling: Sampling = Sampling()
    limits: Limits = Limits()
    trainable: bool = True  # False: recorded, excluded from the objective (a frozen sub-agent, say)


@dataclass(frozen=True, slots=True)
class FilterRef:
    """A registered group filter with its arguments."""

    id: str
    kwargs: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupRequest:
    """`k` members of one task that are to have a valid score, of `k + extra` that are started.

    The group closes as soon as `k` have one, all have ended, or its deadline has passed. What still runs then is
    cancelled; with fewer than `min_k` scored members, or where a filter refuses it, it is dropped.

    Raises:
        UsageError: a number out of its range.
    """

    rollout: RolloutRequest
    k: int = 4
    max_tries: int = 2  # of a member whose failures may be retried
    extra: int = 0
    min_k: int = 1
    refills: int = 0  # members of the group that failed for good and are started afresh all the same
    deadline_s: float | None = None  # from its submission; a process that resumes it gives as long again
    priority: int = 0  # of its members before others' that wait to start, higher first
    seed: int | None = None  # of its members; None: from the run's seed and the number of the submission
    filters: tuple[FilterRef, ...] = ()
    group_judge: str = ""  # "": the environment's own, if it has one
    key: str = ""  # whoever submits again with it means this group; "": of the run's own job, or of a gateway session

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("max_tries", 1), ("extra", 0), ("refills", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} of a group is {getattr(self, name)}; it must be at least {least}")
        if not 1 <= self.min_k <= self.k:
            raise UsageError(f"min_k is {self.min_k}; it must lie between 1 and k, which is {self.k}")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise UsageError(f"the group's deadline_s is {self.deadline_s}; it must be positive: it counts from now on")

    @property
    def size(self) -> int:
        """Members that are started."""
        return self.k + self.extra
