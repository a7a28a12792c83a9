"""profile: where the time of a run's rollouts went, told from what is recorded anyway. It may be taken while they run.

Invariant: the seconds of all lines add up to the seconds that all rollouts together lived, and waited to start.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TextIO

import numpy as np

from envhub.contracts.events import Event, GroupSubmitted, RolloutEnded, RolloutStarted
from envhub.contracts.ids import NO_MEMBER, GroupId, RolloutId, RunId
from envhub.contracts.store import BrowsableStore
from envhub.errors import UnknownName
from envhub.monitor.phases import Life, Phase, PhaseKind
from envhub.store.codec import decode

BATCH = 1_024  # events read at once
QUEUE = "queue"
STRAGGLERS = 10
SLOWEST = 0.99
LEAST = 20  # rollouts of an environment, below which none is called a straggler


@dataclass(frozen=True, slots=True)
class ProfileLine:
    """All phases of one kind and name."""

    kind: str  # a PhaseKind, or queue: from the group's submission to the first try's start
    name: str
    count: int
    seconds: float
    share: float  # of all seconds
    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Straggler:
    """A rollout that took longer than 99 % of its environment's."""

    rollout_id: RolloutId
    environment: str
    seconds: float
    typical_s: float  # the median of its environment
    mostly: str  # what it spent most of its time with
    mostly_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """Where the time went."""

    run_id: RunId
    rollouts: int
    running: int
    wall_s: float  # from the first start to the last thing recorded
    seconds: float  # of all rollouts together, waiting to start too
    parallel: float  # rollouts that lived at once, on average
    lines: tuple[ProfileLine, ...]  # the longest first
    environments: dict[str, dict[str, float]]  # seconds by kind
    stragglers: tuple[Straggler, ...]


@dataclass(slots=True)
class _Times:
    """What is gathered of one run."""

    by_line: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    by_environment: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    ended: dict[str, list[tuple[float, RolloutId, str, float]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, name: str, seconds: float, environment: str) -> None:
        self.by_line[kind, name].append(seconds)
        self.by_environment[environment][kind] += seconds


async def profile(store: BrowsableStore, run_id: RunId, trace: TextIO | None = None) -> Profile:
    """Of a run; `trace` gets every phase as Chrome's trace events, for Perfetto or chrome://tracing.

    Raises:
        UnknownName: no such run.
    """
    runs = [run.run_id for run in await store.runs()]
    if run_id not in runs:
        raise UnknownName.of("run", run_id, runs, "envhub trace list")
    profiling = _Profiling(run_id, ChromeTrace(trace) if trace else None)
    after = 0
    while events := await store.log(run_id, after, BATCH):
        for stored in events:
            profiling.take(decode(stored.kind, stored.payload))
        after = events[-1].place
    return profiling.end()


class _Profiling:
    """Takes the events of a run, in order. Only rollouts that run are in memory."""

    def __init__(self, run_id: RunId, trace: "ChromeTrace | None") -> None:
        self._run_id = run_id
        self._trace = trace
        self._times = _Times()
        self._lives: dict[RolloutId, Life] = {}
        self._submitted: dict[GroupId, float] = {}
        self._began = float("inf")
        self._last = 0.0
        self._rollouts = 0

    def take(self, event: Event) -> None:
        self._last = max(self._last, event.at)
        rollout_id = getattr(event, "rollout_id", None)
        if isinstance(event, GroupSubmitted):
            self._submitted[event.group_id] = event.at
        if rollout_id is None:
            return
        if isinstance(event, RolloutStarted):
            self._start(event)
        life = self._lives.get(rollout_id)
        if life is not None:
            life.take(event)
            if isinstance(event, RolloutEnded):
                self._end(self._lives.pop(rollout_id))

    def end(self) -> Profile:
        running = list(self._lives.values())
        for life in running:
            self._count(life)
        if self._trace:
            self._trace.close()
        times = self._times
        total = sum(sum(seconds) for seconds in times.by_line.values())
        lines = [_line(kind, name, seconds, total) for (kind, name), seconds in times.by_line.items()]
        wall = max(0.0, self._last - self._began)
        lived = total - sum(sum(seconds) for (kind, _), seconds in times.by_line.items() if kind == QUEUE)
        return Profile(
            run_id=self._run_id,
            rollouts=self._rollouts,
            running=len(running),
            wall_s=wall,
            seconds=total,
            parallel=lived / wall if wall else 0.0,
            lines=tuple(sorted(lines, key=lambda line: -line.seconds)),
            environments={name: dict(kinds) for name, kinds in times.by_environment.items()},
            stragglers=tuple(_stragglers(times)),
        )

    def _start(self, event: RolloutStarted) -> None:
        self._rollouts += 1
        self._began = min(self._began, event.at)
        self._lives[event.rollout_id] = Life()
        environment = event.request.environment.id
        if event.parent is None and event.attempt == 0 and event.member != NO_MEMBER:
            waited = event.at - self._submitted.get(event.group_id, event.at)
            self._times.add(QUEUE, environment, max(0.0, waited), environment)

    def _end(self, life: Life) -> None:
        phases = self._count(life)
        start = life.started
        assert start is not None  # only rollouts that started are kept
        if start.parent in self._lives and life.ended_at is not None:
            self._lives[start.parent].take_child(start.rollout_id, start.at, life.ended_at)
        by_what: dict[str, float] = defaultdict(float)
        for phase in phases:
            by_what[_what(phase)] += phase.seconds
        most = max(by_what, key=lambda what: by_what[what], default="")
        seconds = sum(by_what.values())
        self._times.ended[life.environment].append((seconds, start.rollout_id, most, by_what.get(most, 0.0)))

    def _count(self, life: Life) -> list[Phase]:
        phases = life.phases(self._last)
        for phase in phases:
            name = "" if phase.kind is PhaseKind.CHILDREN else phase.name  # which are all different
            self._times.add(phase.kind, name, phase.seconds, life.environment)
        if self._trace and life.started:
            self._trace.write(life, phases)
        return phases


class ChromeTrace:
    """Phases in Chrome's Trace Event Format: a process a group, a thread a rollout.

    https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (complete events, "ph": "X")
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._threads = count(1)
        self._groups: dict[str, int] = {}
        self._file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        self._first = True

    def write(self, life: Life, phases: Sequence[Phase]) -> None:
        start = life.started
        assert start is not None
        if start.group_id not in self._groups:
            self._groups[start.group_id] = len(self._groups) + 1
            self._event("M", "process_name", start.group_id, 0, args={"name": start.group_id})
        thread = next(self._threads)
        self._event("M", "thread_name", start.group_id, thread, args={"name": start.rollout_id})
        for phase in phases:
            at, lasted = round(phase.started_at * 1e6), round(phase.seconds * 1e6)
            about = {"turn": phase.turn, "step": phase.step, "rollout": start.rollout_id}
            name = f"{phase.kind} {phase.name}".strip()
            self._event("X", name, start.group_id, thread, cat=str(phase.kind), ts=at, dur=lasted, args=about)

    def close(self) -> None:
        self._file.write("\n]}\n")

    def _event(self, kind: str, name: str, group: str, thread: int, **more: object) -> None:
        event = {"ph": kind, "name": name, "pid": self._groups[group], "tid": thread, **more}
        self._file.write(("" if self._first else ",\n") + json.dumps(event))
        self._first = False


def _what(phase: Phase) -> str:
    return str(phase.kind) if phase.kind is PhaseKind.CHILDREN else f"{phase.kind} {phase.name}".strip()


def _line(kind: str, name: str, seconds: Sequence[float], total: float) -> ProfileLine:
    p50, p99 = np.quantile(seconds, (0.5, 0.99))
    own = sum(seconds)
    return ProfileLine(
        kind=kind,
        name=name,
        count=len(seconds),
        seconds=own,
        share=own / total if total else 0.0,
        p50_s=float(p50),
        p99_s=float(p99),
        max_s=max(seconds),
    )


def _stragglers(times: _Times) -> Iterator[Straggler]:
    found = []
    for environment, ended in times.ended.items():
        if len(ended) >= LEAST:
            typical, slow = np.quantile([seconds for seconds, *_ in ended], (0.5, SLOWEST))
            found += [
                Straggler(rollout_id, environment, seconds, float(typical), mostly, mostly_s)
                for seconds, rollout_id, mostly, mostly_s in ended
                if seconds > slow and seconds > typical
            ]
    yield from sorted(found, key=lambda one: one.typical_s - one.seconds)[:STRAGGLERS]
