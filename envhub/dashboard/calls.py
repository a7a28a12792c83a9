"""Calls: each model call as it was asked beside what was made of it, and how it differs from the call before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from envhub.contracts.messages import JsonObject, Message, Role
from envhub.contracts.raw_call import MAX_BODY_BYTES, RawBody, RawCall
from envhub.contracts.turn import Finish, Fork, Sampling, Turn

SECRET = ("authorization", "api-key", "apikey", "token", "cookie", "secret", "password", "key")  # parts of names
HIDDEN = "(hidden)"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One model call. Times are seconds since the epoch; 0: nobody took them."""

    turn: int
    parent: int | None
    fork: Fork
    policy_id: str
    finish: Finish
    started_at: float
    first_token_at: float
    ended_at: float
    prompt_tokens: int  # of the whole prompt
    sampled_tokens: int
    messages: int  # of the whole prompt
    new_messages: int


class DiffKind(StrEnum):
    SAME = "same"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class DiffPart:
    """Messages of one kind in a row."""

    kind: DiffKind
    messages: list[Message]  # of SAME ones none: they are in the prompt
    count: int


@dataclass(frozen=True, slots=True)
class CanonicalCall:
    """A call in the form that all dialects are brought into."""

    messages: list[Message]  # the whole prompt
    tools: list[str]
    sampling: Sampling  # as it was enforced
    response: Message


@dataclass(frozen=True, slots=True)
class RawExchange:
    """What went over the gateway's wire, in the words of the caller's dialect."""

    method: str
    path: str
    request_headers: dict[str, str]
    request_body: str
    status: int  # 0: no answer began: the client hung up, or the call failed once it was sampled
    response_headers: dict[str, str]
    response_body: str
    note: str  # what is missing of it; "": nothing

    @classmethod
    def of(cls, call: RawCall) -> "RawExchange":
        bodies = ("request", call.request), ("response", call.response)
        return cls(
            method=call.method,
            path=call.path,
            request_headers=dict(call.request_headers),
            request_body=_text(call.request),
            status=call.status,
            response_headers=dict(call.response_headers),
            response_body=_text(call.response),
            note="; ".join(
                f"the {name} has {body.size_bytes:,} bytes, of which the first {MAX_BODY_BYTES:,} are kept"
                for name, body in bodies
                if body.size_bytes > MAX_BODY_BYTES
            ),
        )


@dataclass(frozen=True, slots=True)
class CallDetail:
    """One call with everything that was asked."""

    call: CallRecord
    asked: JsonObject  # what a caller outside wrote into its request; empty for agents of our own
    canonical: CanonicalCall
    previous: int | None  # the turn of the call before it
    diff: list[DiffPart]  # from that one's prompt to this one's
    raw: RawExchange | None  # None: no program outside called, or the run does not keep that


def calls(turns: Sequence[Turn]) -> list[CallRecord]:
    """In the order in which they were recorded."""
    by_index = {turn.index: turn for turn in turns}
    return [_record(turn, by_index) for turn in turns]


def call_detail(turns: Sequence[Turn], index: int, raw: RawCall | None = None) -> CallDetail | None:
    """None: there is no such turn."""
    by_index = {turn.index: turn for turn in turns}
    turn = by_index.get(index)
    if turn is None:
        return None
    place = next(n for n, one in enumerate(turns) if one.index == index)
    previous = turns[place - 1] if place else None
    prompt = _prompt(turn, by_index)
    return CallDetail(
        call=_record(turn, by_index),
        asked=without_secrets(turn.asked),
        canonical=CanonicalCall(prompt, list(turn.tools), turn.sampling, turn.response),
        previous=previous.index if previous else None,
        diff=list(_diff(_prompt(previous, by_index) if previous else [], prompt)),
        raw=RawExchange.of(raw) if raw else None,
    )


def without_secrets(value: JsonObject) -> JsonObject:
    """The same, but for what stands under a name that secrets go by."""
    return {name: HIDDEN if _is_secret(name) and inner else _cleaned(inner) for name, inner in value.items()}


def _text(body: RawBody) -> str:
    return body.data.decode(errors="replace")


def _cleaned(value: object) -> object:
    if isinstance(value, Mapping):
        return without_secrets(value)
    return [_cleaned(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_secret(name: str) -> bool:
    """By the last part of its name: max_tokens and prompt_cache_key are none."""
    name = name.lower().replace("_", "-")
    return name in SECRET[:-1] or name.endswith(("-api-key", "-secret", "-password", "-token", "authorization"))


def _prompt(turn: Turn, by_index: Mapping[int, Turn]) -> list[Message]:
    """All messages that the model read for it, and of turns before it those that it had said."""
    parts: list[tuple[Message, ...]] = [turn.messages]
    while turn.parent is not None and turn.parent in by_index:
        turn = by_index[turn.parent]
        parts += [(turn.response,), turn.messages]
    return [message for part in reversed(parts) for message in part]


def _record(turn: Turn, by_index: Mapping[int, Turn]) -> CallRecord:
    tokens, messages, one = len(turn.delta_ids), len(turn.messages), turn
    while one.parent is not None and one.parent in by_index:
        one = by_index[one.parent]
        tokens += len(one.delta_ids) + len(one.output_ids)
        messages += len(one.messages) + 1
    return CallRecord(
        turn=turn.index,
        parent=turn.parent,
        fork=turn.fork,
        policy_id=turn.policy_id,
        finish=turn.finish,
        started_at=turn.timings.started_at,
        first_token_at=turn.timings.first_token_at,
        ended_at=turn.timings.ended_at,
        prompt_tokens=tokens,
        sampled_tokens=len(turn.output_ids),
        messages=messages,
        new_messages=len(turn.messages),
    )


def _diff(before: Sequence[Message], after: Sequence[Message]) -> Iterator[DiffPart]:
    matcher = SequenceMatcher(a=[*map(_key, before)], b=[*map(_key, after)], autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            yield DiffPart(DiffKind.SAME, [], b - a)
            continue
        if b > a:
            yield DiffPart(DiffKind.REMOVED, list(before[a:b]), b - a)
        if d > c:
            yield DiffPart(DiffKind.ADDED, list(after[c:d]), d - c)


def _key(message: Message) -> tuple[Role, str, str, str, str]:
    """Equal where the messages are."""
    return message.role, message.content, message.reasoning, message.tool_call_id, repr(message.tool_calls)
