"""Policy: messages in, one action out."""

from dataclasses import dataclass, field
from typing import Protocol

from envhub.contracts.messages import JsonObject, Message
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Finish, Sampling


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """The whole conversation so far; what is already recorded of it is reused id for id."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    sampling: Sampling | None = None  # None: the rollout's
    asked: JsonObject = field(default_factory=dict)  # what the caller asked of a dialect, for the record


@dataclass(frozen=True, slots=True)
class Action:
    """What the policy did: one assistant message, with its tool calls."""

    message: Message
    finish: Finish = Finish.STOP
    turn: int = -1  # index of the turn that sampled it; -1: not sampled by a recorded policy
    prompt_tokens: int = 0  # rendered for this call
    output_tokens: int = 0  # sampled in it


class Policy(Protocol):
    """Acts in one rollout; its model calls become turns of that rollout."""

    async def act(self, input: PolicyInput) -> Action:
        """
        Raises:
            Truncated: "context", the conversation does not fit the model; "budget", the rollout's is spent.
            Fault: the engine failed.
        """
