"""Recorded: the events of one rollout, sorted by what they say."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from envhub.contracts.events import (
    CallRecorded,
    Event,
    LogRecorded,
    RolloutEnded,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.messages import Message
from envhub.contracts.raw_call import RawCall
from envhub.contracts.step import Step
from envhub.contracts.store import TraceStore
from envhub.contracts.trajectory import Trajectory
from envhub.contracts.turn import Turn
from envhub.dashboard.records import TranscriptEntry


@dataclass(slots=True)
class Recorded:
    """What a store holds of one rollout."""

    started: RolloutStarted | None = None
    ended: RolloutEnded | None = None
    turns: list[Turn] = field(default_factory=list)
    raw_calls: dict[int, RawCall] = field(default_factory=dict)  # by turn
    logs: list[LogRecorded] = field(default_factory=list)
    actions: list[tuple[float, Turn | Step]] = field(default_factory=list)  # and when, in the order of recording

    @classmethod
    async def read(cls, store: TraceStore, run_id: RunId, rollout_id: RolloutId) -> "Recorded":
        recorded = cls()
        async for event in store.events(run_id, rollout_id):
            recorded._take(event)
        return recorded

    def _take(self, event: Event) -> None:
        match event:
            case RolloutStarted():
                self.started = event
            case RolloutEnded():
                self.ended = event
            case TurnRecorded(turn=turn):
                self.turns.append(turn)
                self.actions.append((event.at, turn))
            case StepRecorded(step=step):
                self.actions.append((event.at, step))
            case CallRecorded(call=call):
                self.raw_calls[call.turn] = call
            case LogRecorded():
                self.logs.append(event)
            case _:
                pass  # of the run or the group, not of this rollout

    def transcript(self, trajectory: Trajectory) -> list[TranscriptEntry]:
        """All messages, each once: turn by turn what its prompt added and what was sampled, and between them what no
        prompt brought: the answer to the last action, and the steps of an agent that calls no model."""
        rows = {turn: row for row in reversed(range(len(trajectory.rows))) for turn in trajectory.rows[row].turns}
        continued = {turn.parent for turn in self.turns}
        entries = []
        if self.started and not self.actions:
            at = self.started.at
            entries = [TranscriptEntry(message=message, at=at) for message in self.started.request.task.prompt]
        for at, action in self.actions:
            if isinstance(action, Turn):
                entries += _of_turn(action, rows.get(action.index, -1), at, continued=action.index in continued)
            elif action.turn not in continued:
                entries += _of_step(action, rows.get(action.turn, -1), at)
        return entries


def _of_turn(turn: Turn, row: int, at: float, *, continued: bool) -> list[TranscriptEntry]:
    began = turn.timings.started_at or at
    prompt = [TranscriptEntry(message=message, at=began, turn=turn.index, row=row) for message in turn.messages]
    reply = TranscriptEntry(message=turn.response, at=at, turn=turn.index, row=row, sampled=True, continued=continued)
    entries = [*prompt, reply]
    entries[0].fork = turn.fork
    return entries


def _of_step(step: Step, row: int, at: float) -> list[TranscriptEntry]:
    messages: Sequence[Message] = step.observation if step.turn >= 0 else (step.action, *step.observation)
    return [TranscriptEntry(message=message, at=at, turn=step.turn, step=step.index, row=row) for message in messages]
