"""What the API answers of runs and rollouts, where no record of the contracts says it already."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from pydantic import BaseModel

from envhub.contracts.access import Role
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.contracts.messages import JsonObject, Message, ToolCall
from envhub.contracts.outcome import Failure
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.score import Score
from envhub.contracts.store import RolloutSummary, RunSummary
from envhub.contracts.trajectory import Row
from envhub.contracts.turn import NO_VERSION, Fork, Span
from envhub.contracts.usage import Usage
from envhub.dashboard.conditions import SearchProgress
from envhub.dashboard.decoder import Decode
from envhub.dashboard.token_text import pieces_or_none

LONGEST_TEXT = 100_000  # characters of one text in a transcript; a route of its own gives all of it


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """Who asks, and what this dashboard can do."""

    role: Role
    live_run: RunId | None  # that this process plays: it alone can be steered here
    decoder: bool  # tokens may have text


class RunRecord(BaseModel):
    """One run and the conservation that is counted over it."""

    run_id: RunId
    started_at: float
    seed: str  # decimal: JavaScript's numbers end at 2**53
    submitted: int
    by_state: dict[MemberState, int]  # states that no member is in are left out
    conserved: bool
    drained: bool
    equation: str

    @classmethod
    def of(cls, run: RunSummary) -> Self:
        counts = run.members
        return cls(
            run_id=run.run_id,
            started_at=run.started_at,
            seed=str(run.seed),
            submitted=counts.submitted,
            by_state={state: counts.of(state) for state in MemberState if counts.of(state)},
            conserved=counts.conserved,
            drained=counts.drained,
            equation=counts.equation(),
        )


@dataclass(frozen=True, slots=True)
class RunDetail:
    """One run, with what it was started with and what it has used."""

    run: RunRecord
    settings: JsonObject
    environments: list[str]
    policies: list[str]
    versions: list[int]  # that sampled anything
    rollouts: int
    groups: int
    last_event_at: float | None  # the newest start or end of a rollout


@dataclass(frozen=True, slots=True)
class RolloutList:
    """One page."""

    rollouts: list[RolloutSummary]
    next_cursor: str  # "": the last page
    total: int  # that match, over all pages
    search: SearchProgress | None  # None: no text was asked for


class TranscriptEntry(BaseModel):
    """One message, and the model call that sampled it or whose prompt brought it."""

    message: Message
    at: float = 0.0  # seconds since the epoch, when it was recorded; 0: unknown
    turn: int = -1  # -1: no model call
    step: int = -1  # that it is the action or the observation of; -1: none
    row: int = -1  # of the trajectory; the earliest that it lies on
    sampled: bool = False
    fork: Fork = Fork.NONE  # on the first message of a turn that begins a branch: why
    continued: bool = False  # sampled, and a later turn goes on from it: of equal tries, the one that was taken
    cut_from: int = 0  # characters that its longest text really has, where it is too long to be shown whole

    def shortened(self) -> Self:
        """With texts of LONGEST_TEXT at most."""
        longest = longest_text(self.message)
        if longest <= LONGEST_TEXT:
            return self
        return self.model_copy(update={"message": _cut(self.message), "cut_from": longest})


class LogLine(BaseModel):
    at: float
    message: str
    fields: dict[str, object]


class TreeNode(BaseModel):
    """A rollout of a tree."""

    rollout: RolloutSummary
    depth: int
    critical: bool  # on the chain that decided how long the tree took


class RolloutRecord(BaseModel):
    """Everything of one rollout but its tokens. What is only known at its end is None while it runs."""

    summary: RolloutSummary
    request: RolloutRequest | None
    seed: str | None  # decimal
    tree: list[TreeNode]  # its root and what lies below, parents first: at most the first 1000
    tree_size: int
    transcript: list[TranscriptEntry]
    score: Score | None
    failure: Failure | None
    usage: Usage | None
    logs: list[LogLine]


class RowRecord(BaseModel):
    """One row of the trajectory, without its tokens."""

    row: int
    tokens: int
    sampled: int
    trainable: int
    turns: list[int]
    parent: int | None
    fork_at: int
    versions: list[int]  # that sampled any of it
    min_logprob: float | None  # None: nothing is sampled

    @classmethod
    def of(cls, number: int, row: Row) -> Self:
        sampled = row.mask(trainable=False)
        return cls(
            row=number,
            tokens=len(row.ids),
            sampled=int(sampled.sum()),
            trainable=int(row.mask(trainable=True).sum()),
            turns=list(row.turns),
            parent=row.parent,
            fork_at=row.fork_at,
            versions=sorted({span.policy_version for span in row.spans if span.policy_version != NO_VERSION}),
            min_logprob=shortest(row.logprobs[sampled].min()) if sampled.any() else None,
        )


class RowTokens(BaseModel):
    """Tokens [offset, offset + len(ids)) of a row, by column."""

    row: int
    offset: int
    total: int  # tokens of the row
    ids: list[int]
    pieces: list[str] | None  # text a token, "" where its bytes complete no character; None: no decoder of its model
    logprobs: list[float | None]  # nats; None where the token was not sampled
    spans: list[Span]  # tile the window, in offsets of the row

    @classmethod
    def cut(cls, number: int, row: Row, offset: int, limit: int, decode: Decode | None) -> Self:
        """The window of at most `limit` tokens from `offset` on."""
        total = len(row.ids)
        start, stop = min(offset, total), min(offset + limit, total)
        sampled = row.mask(trainable=False)[start:stop]
        return cls(
            row=number,
            offset=start,
            total=total,
            ids=row.ids[start:stop].tolist(),
            pieces=decode and pieces_or_none(row.ids.tolist(), decode, start, stop),
            logprobs=[shortest(x) if s else None for x, s in zip(row.logprobs[start:stop], sampled, strict=True)],
            spans=[
                replace(span, start=max(span.start, start), end=min(span.end, stop))
                for span in row.spans
                if span.start < stop and span.end > start
            ],
        )


def shortest(value: np.float32) -> float:
    """The shortest decimal that is this float32: -0.7, where the plain conversion gives -0.699999988079071."""
    return float(str(value))


def longest_text(message: Message) -> int:
    """Characters of the longest text in it."""
    arguments = (text for call in message.tool_calls for text in _texts(call.arguments))
    return max(len(message.content), len(message.reasoning), *map(len, arguments), 0)


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]


def _cut(message: Message) -> Message:
    return replace(
        message,
        content=message.content[:LONGEST_TEXT],
        reasoning=message.reasoning[:LONGEST_TEXT],
        tool_calls=tuple(_cut_call(call) for call in message.tool_calls),
    )


def _cut_call(call: ToolCall) -> ToolCall:
    return replace(call, arguments={name: _cut_value(value) for name, value in call.arguments.items()})


def _cut_value(value: object) -> object:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, dict):
        return {name: _cut_value(inner) for name, inner in value.items()}
    return [_cut_value(inner) for inner in value] if isinstance(value, list) else value
