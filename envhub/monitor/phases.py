"""Phases: what a rollout did at each moment of its life, told from what is recorded anyway.

Invariant: the phases of a rollout tile its life, from its start to its end, without gap or overlap.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from envhub.contracts.events import (
    Event,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import RolloutId


class PhaseKind(StrEnum):
    """What a rollout does. Of several at once, the later here is what it is said to do."""

    PLATFORM = "platform"  # nothing of the others: its own agent's code, or ours
    JUDGE = "judge"
    ENVIRONMENT = "environment"  # reset, or a step without a tool call
    TOOL = "tool"
    ENGINE = "engine"
    CHILDREN = "children"  # it waits for rollouts that it started
    PAUSED = "paused"


RANKS = {kind: rank for rank, kind in enumerate(PhaseKind)}


@dataclass(frozen=True, slots=True)
class Phase:
    """[started_at, ended_at), seconds since the epoch."""

    kind: PhaseKind
    name: str  # of the tools, the policy, the judge or the environment
    started_at: float
    ended_at: float
    turn: int = -1  # that it belongs to; -1: none
    step: int = -1

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


@dataclass(slots=True)
class Life:
    """What is recorded of one rollout's time. Feed it the rollout's events, in order, and its children."""

    started: RolloutStarted | None = None
    ended_at: float | None = None
    last_at: float = 0.0
    acted_at: float = 0.0  # when its agent was last seen to do something
    spans: list[Phase] = field(default_factory=list)
    _paused_at: float | None = None
    _first_act: float | None = None

    def take(self, event: Event) -> None:
        self.last_at = max(self.last_at, event.at)
        match event:
            case RolloutStarted():
                self.started, self.acted_at = event, event.at
            case TurnRecorded(turn=turn):
                times = turn.timings
                self._act(Phase(PhaseKind.ENGINE, turn.policy_id, times.started_at, times.ended_at, turn.index))
            case StepRecorded(step=step):
                tools = list(dict.fromkeys(call.name for call in step.action.tool_calls))
                kind = PhaseKind.TOOL if tools else PhaseKind.ENVIRONMENT
                name = " + ".join(tools) if tools else self.environment
                self._act(Phase(kind, name, step.started_at, step.ended_at, step.turn, step.index))
            case RolloutPaused():
                self._paused_at = event.at
            case RolloutContinued() | RolloutResumed() if self._paused_at is not None:
                self._continue(event.at)
            case RolloutEnded():
                if self._paused_at is not None:
                    self._continue(event.at)
                self.ended_at = event.at

    def take_child(self, name: str, started_at: float, ended_at: float | None) -> None:
        """A rollout that it started; None: it runs."""
        self.spans.append(Phase(PhaseKind.CHILDREN, name, started_at, ended_at or float("inf")))

    @property
    def environment(self) -> str:
        return self.started.request.environment.id if self.started else ""

    def phases(self, now: float) -> list[Phase]:
        """All of it, in order; up to `now` where it runs."""
        if self.started is None:
            return []
        start, end = self.started.at, self.ended_at or max(now, self.last_at)
        return list(_tiled([*self.spans, *self._outer(end)], start, end))

    def _outer(self, end: float) -> Iterator[Phase]:
        """What its first and its last part are: the environment's reset, and the judging."""
        assert self.started is not None
        if self._first_act is not None:
            yield Phase(PhaseKind.ENVIRONMENT, f"{self.environment} reset", self.started.at, self._first_act)
        if self.ended_at is not None and self._first_act is not None:
            judge = self.started.request.judge or f"{self.environment}'s own"
            yield Phase(PhaseKind.JUDGE, judge, self.acted_at, end)

    def _act(self, phase: Phase) -> None:
        if phase.ended_at <= 0.0:  # nobody took the time
            return
        self.spans.append(phase)
        self.acted_at = max(self.acted_at, phase.ended_at)
        if self._first_act is None:
            self._first_act = phase.started_at

    def _continue(self, at: float) -> None:
        assert self._paused_at is not None
        self.spans.append(Phase(PhaseKind.PAUSED, "", self._paused_at, at))
        self._paused_at = None


def lives(events: Iterable[Event]) -> dict[RolloutId, Life]:
    """The lives that these events tell of, parents knowing of their children."""
    found: dict[RolloutId, Life] = {}
    for event in events:
        rollout_id = getattr(event, "rollout_id", None)
        if rollout_id is not None:
            found.setdefault(rollout_id, Life()).take(event)
    for rollout_id, life in found.items():
        parent = found.get(life.started.parent) if life.started and life.started.parent else None
        if parent is not None and life.started is not None:
            parent.take_child(rollout_id, life.started.at, life.ended_at)
    return found


def _tiled(spans: Sequence[Phase], start: float, end: float) -> Iterator[Phase]:
    """The highest kind at each moment; PLATFORM where there is none."""
    cuts = sorted(
        {start, end, *(min(max(at, start), end) for span in spans for at in (span.started_at, span.ended_at))}
    )
    opening = deque(sorted(spans, key=lambda span: span.started_at))
    active: list[Phase] = []
    last: Phase | None = None
    for left, right in pairwise(cuts):
        while opening and opening[0].started_at <= left:
            active.append(opening.popleft())
        active = [span for span in active if span.ended_at > left]
        top = max(active, key=lambda span: (RANKS[span.kind], span.started_at), default=None)
        part = (
            Phase(top.kind, top.name, left, right, top.turn, top.step)
            if top
            else Phase(PhaseKind.PLATFORM, "", left, right)
        )
        if last is not None and _same(last, part):
            last = Phase(last.kind, last.name, last.started_at, right, last.turn, last.step)
            continue
        if last is not None:
            yield last
        last = part
    if last is not None:
        yield last


def _same(one: Phase, other: Phase) -> bool:
    """Whether they are one phase. Children that overlap are one wait."""
    if one.kind is PhaseKind.CHILDREN and other.kind is PhaseKind.CHILDREN:
        return True
    return (one.kind, one.name, one.turn, one.step) == (other.kind, other.name, other.turn, other.step)
