"""Activity: what the rollouts that run are waiting for, and how fast a run goes, from its events as they come."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from envhub.contracts.events import (
    EpisodeRecorded,
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
from envhub.store.sealed import gist_of

WINDOW_S = 600  # that rates are kept of, a second each


class Waiting(StrEnum):
    """What a rollout that runs waits for."""

    START = "start"  # its environment
    ENGINE = "engine"
    TOOL = "tool"  # or its environment's step
    JUDGE = "judge"
    CHILDREN = "children"
    PAUSED = "paused"


@dataclass(slots=True)
class Doing:
    """One rollout that runs."""

    waiting: Waiting
    since: float  # seconds since the epoch
    started_at: float
    environment: str
    parent: RolloutId | None
    children: int = 0  # that run
    paused: bool = False

    @property
    def waits_for(self) -> Waiting:
        if self.paused:
            return Waiting.PAUSED
        return Waiting.CHILDREN if self.children else self.waiting


@dataclass(slots=True)
class Second:
    """What happened within one second."""

    at: int
    rollouts: int = 0  # that ended
    tokens: int = 0  # sampled


@dataclass(slots=True)
class Activity:
    """Feed it every event of a run, on the loop: each costs about a microsecond."""

    clock: Callable[[], float] = time.time
    doing: dict[RolloutId, Doing] = field(default_factory=dict)
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=WINDOW_S))

    def take(self, event: Event) -> None:
        match event:
            case TurnRecorded():
                self._now().tokens += gist_of(event).sampled_tokens
                self._wait(event.rollout_id, Waiting.TOOL, event.at)
            case StepRecorded(step=step):
                over = step.terminated or step.truncated
                self._wait(event.rollout_id, Waiting.JUDGE if over else Waiting.ENGINE, event.at)
            case EpisodeRecorded():
                self._wait(event.rollout_id, Waiting.JUDGE, event.at)
            case RolloutStarted():
                self._start(event)
            case RolloutPaused() | RolloutContinued() | RolloutResumed():
                if event.rollout_id in self.doing:
                    self.doing[event.rollout_id].paused = isinstance(event, RolloutPaused)
            case RolloutEnded():
                self._end(event)

    def waiting(self) -> Mapping[str, int]:
        """How many rollouts wait for what."""
        return Counter(str(doing.waits_for) for doing in self.doing.values())

    def rates(self, window_s: int) -> list[Second]:
        """The last so many seconds in which anything happened, oldest first."""
        begin = int(self.clock()) - window_s
        return [second for second in self.seconds if second.at >= begin]

    def _start(self, event: RolloutStarted) -> None:
        environment = event.request.environment.id
        self.doing[event.rollout_id] = Doing(Waiting.START, event.at, event.at, environment, event.parent)
        if event.parent in self.doing:
            self.doing[event.parent].children += 1

    def _end(self, event: RolloutEnded) -> None:
        self._now().rollouts += 1
        doing = self.doing.pop(event.rollout_id, None)
        if doing is not None and doing.parent in self.doing:
            self.doing[doing.parent].children -= 1

    def _wait(self, rollout_id: RolloutId, waiting: Waiting, at: float) -> None:
        doing = self.doing.get(rollout_id)
        if doing is not None:
            doing.waiting, doing.since = waiting, at

    def _now(self) -> Second:
        at = int(self.clock())
        if not self.seconds or self.seconds[-1].at != at:
            self.seconds.append(Second(at))
        return self.seconds[-1]
