"""Dialect: how one API of the field asks for an answer and is given one. Pure functions, no I/O.

A Call is what a request asks; its Reply writes the answer in the request's own words, whole or as it is sampled.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import msgspec

from envhub.contracts.engine import Tokenizer
from envhub.contracts.messages import JsonObject, Message, ToolCall
from envhub.contracts.policy import Action, Heard, PolicyInput
from envhub.contracts.turn import Sampling, Turn
from envhub.gateway.call_rules import CallRules
from envhub.gateway.errors import ApiError

WRONG_CALL = "invalid_call"


@dataclass(frozen=True, slots=True)
class Sampled:
    """The record of an answer."""

    turn: Turn
    tokenizer: Tokenizer


Write: TypeAlias = Callable[[Action, Sampled | None], bytes]  # None: of a policy that keeps no record of tokens


class Reply(Protocol):
    """Writes one answer as a stream: opening, any number of pieces, then closing or failure."""

    keep_alive: bytes  # says that the answer is still coming

    def opening(self) -> bytes: ...

    def piece(self, heard: Heard) -> bytes: ...

    def closing(self, action: Action, sampled: Sampled | None) -> bytes:
        """What of the answer was not written yet, and the end."""

    def failure(self, error: ApiError) -> bytes:
        """The end of a stream that had begun."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request asks of the policy, and how it is answered."""

    input: PolicyInput
    whole: Write
    stream: Reply | None  # None: the answer is asked for whole
    id: str = ""  # under which a later call may go on from the answer
    kept: tuple[Message, ...] | None = None  # the conversation, kept with the answer for that; None: it is not


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read: all that a dialect needs to make a Call of it."""

    body: object  # decoded JSON
    sampling: Sampling  # the rollout's
    rules: CallRules
    id: str  # of the answer to be
    now: int  # seconds since the epoch
    path: Mapping[str, str]  # the parts of the route that it was sent to
    kept: Mapping[str, tuple[Message, ...]]  # conversations of this session, by the id of the answer that ended each

    def enforced(
        self, *, max_tokens: int | None, temperature: float | None = None, seed: int | None = None
    ) -> Sampling | None:
        """What a call is sampled with that asks so; None: as the rollout's.

        Raises:
            UsageError: a value outside its range.
        """
        return self.rules.enforced(self.sampling, temperature=temperature, max_tokens=max_tokens, seed=seed)


Parse: TypeAlias = Callable[[Asked], Call]  # raises ApiError 400, naming the field
WriteError: TypeAlias = Callable[[ApiError], JsonObject]


def written_name(call: ToolCall) -> str:
    """A wrong call may have none, and clients want one."""
    return call.name or WRONG_CALL


def written_arguments(call: ToolCall) -> JsonObject:
    """A wrong call is told as one: its only argument is why. Agents report to the model what their tool says of it."""
    return {WRONG_CALL: call.error} if call.error else call.arguments


def read_call(id: str, name: str, arguments: JsonObject) -> ToolCall:
    """The call that was written so."""
    error = arguments.get(WRONG_CALL)
    if len(arguments) == 1 and isinstance(error, str):
        return ToolCall(id, "" if name == WRONG_CALL else name, error=error)
    return ToolCall(id, name, arguments)


def read_call_text(id: str, name: str, written: str) -> ToolCall:
    """The call whose arguments are JSON text; what is no JSON object is kept as the error."""
    try:
        return read_call(id, name, msgspec.json.decode(written or "{}", type=dict[str, object]))
    except (msgspec.DecodeError, RecursionError):
        return ToolCall(id, name, error=written)


def unsaid(whole: str, said: str) -> str:
    """What of a text was not streamed. What was may begin with space that the whole has not; where it is no beginning
    at all (a tag turned content into reasoning afterwards), nothing is left out."""
    for told in (said, said.lstrip()):
        if whole.startswith(told):
            return whole[len(told) :]
    return whole
