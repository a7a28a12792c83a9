"""Turn: one model call with its exact tokens, and the spans that say what each token is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.ids import PolicyId, PolicyVersion
from envhub.contracts.messages import Image, JsonObject, Message, Role
from envhub.contracts.quick import quickly_made
from envhub.contracts.token_file import TokenFile
from envhub.errors import UsageError

Ids: TypeAlias = NDArray[np.int32]  # [T]
Logprobs: TypeAlias = NDArray[np.float32]  # [T], nats, each finite and <= 0

NO_VERSION = PolicyVersion(-1)  # of tokens that no policy sampled


class Finish(StrEnum):
    """Why sampling ended."""

    STOP = "stop"
    LENGTH = "length"
    CONTEXT = "context"
    ABORT = "abort"


class Fork(StrEnum):
    """Why a turn begins a branch of its own, and continues none (docs/tokens.md, Branches)."""

    NONE = ""  # it continues a branch, or is the first of its policy
    RETRY = "retry"  # the same history again: a client's retry, a parallel try, best of n
    BRANCH = "branch"  # after a recorded reply the conversation goes on in another way
    REASONING_DROPPED = "reasoning_dropped"  # reasoning that the caller used to return was left out
    ARGUMENTS_CHANGED = "arguments_changed"  # a reply came back with the calls it made, but other arguments
    COMPACTION = "compaction"  # what was said before came back shorter, to make room
    EDITED = "edited"  # a reply was rewritten, inserted or left out, or what lies before one was changed
    TOOLS_CHANGED = "tools_changed"  # the same beginning, under other tools
    SIDE_CALL = "side_call"  # beside the conversation: a title, a commit message
    SUBAGENT = "subagent"  # a conversation of another agent that has the same key
    UNKNOWN = "unknown"  # nothing in common with what is recorded, and nobody said why

    @classmethod
    def _missing_(cls, value: object) -> "Fork | None":
        """A reason that only another version of envhub gave."""
        return cls.UNKNOWN if isinstance(value, str) else None


class CallKind(StrEnum):
    """Whose call it is."""

    MAIN = "main"
    SUBAGENT = "subagent"
    SIDE_CALL = "side_call"


TRAINING_KINDS = frozenset((CallKind.MAIN, CallKind.SUBAGENT))  # whose tokens train, where nobody says otherwise


@quickly_made
@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. `seed` None: derived from the rollout and the turn.

    Raises:
        UsageError: a value outside its range.
    """

    temperature: float = 1.0
    max_tokens: int = 256
    seed: int | None = None
    top_p: float = 1.0  # the likeliest ids that have so much of the probability together; 1: all
    top_k: int = 0  # so many of the likeliest; 0: all
    min_p: float = 0.0  # those at least so likely as a share of the likeliest; 0: all

    @property
    def truncated(self) -> bool:
        """Whether only some ids can be drawn, so that the distribution is that of these alone: at the temperature, by
        min_p first, then top_k, then top_p, each of what is left. A greedy choice is not: it is certain either way."""
        return (self.top_p < 1.0 or self.top_k > 0 or self.min_p > 0.0) and self.temperature > 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature <= 100.0:
            raise UsageError(f"temperature is {self.temperature}; it must lie in [0, 100] (0 is greedy)")
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p is {self.top_p}; it must lie in (0, 1] (1 keeps all ids)")
        if self.top_k < 0:
            raise UsageError(f"top_k is {self.top_k}; it must not be negative (0 keeps all ids)")
        if not 0.0 <= self.min_p <= 1.0:
            raise UsageError(f"min_p is {self.min_p}; it must lie in [0, 1] (0 keeps all ids)")


@quickly_made
@dataclass(frozen=True, slots=True)
class Span:
    """Tokens [start, end) with one role, one policy version and one temperature."""

    start: int
    end: int
    role: Role
    sampled: bool = False
    trainable: bool = False
    policy_id: PolicyId = PolicyId("")
    policy_version: PolicyVersion = NO_VERSION
    temperature: float = 0.0  # of sampled tokens
    turn: int = -1  # the turn that sampled it, or whose prompt brought it


@dataclass(frozen=True, slots=True)
class PromptImage:
    """A picture, and the placeholder tokens [start, end) that stand for it: what the chat template writes."""

    image: Image
    start: int
    end: int

    def moved(self, by: int) -> "PromptImage":
        return PromptImage(self.image, self.start + by, self.end + by)


@quickly_made
@dataclass(frozen=True, slots=True)
class Timings:
    """Wall-clock seconds since the epoch; excluded from every comparison of traces."""

    started_at: float = 0.0
    first_token_at: float = 0.0
    ended_at: float = 0.0


@quickly_made
@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """One model call: its prompt is the parent turn's prompt and output, id for id, then `delta_ids`."""

    index: int  # of the call within the rollout; a call that failed leaves a gap
    policy_id: PolicyId
    parent: int | None  # None: a row of its own from the first token on
    fork: Fork  # why it begins a branch
    messages: tuple[Message, ...]  # of the prompt, new since the parent
    tools: tuple[str, ...]  # names of the tools that were offered
    delta_ids: Ids  # int32 [D]
    output_ids: Ids  # int32 [T]
    logprobs: Logprobs  # float32 [T], nats
    spans: tuple[Span, ...]  # tile output_ids: offsets within it
    response: Message
    finish: Finish
    sampling: Sampling  # enforced; its seed is the one really used
    asked: JsonObject  # what the caller asked for, where a dialect let it ask
    logprob_kind: str  # "exact": of the sampled id under the distribution that it was sampled from
    timings: Timings = Timings()
    images: tuple[PromptImage, ...] = ()  # of the messages, with offsets within delta_ids
    rewritten: bool = False  # by now its template would write what is recorded before it otherwise: without reasoning
    files: tuple[TokenFile, ...] = ()  # of its tokens, with offsets within delta_ids and output_ids in a row
