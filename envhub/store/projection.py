"""The projections of the event log: where every run, group, member and rollout is. Pure, and the same for every store.

Invariants: a member moves only as contracts/events.py says; what is impossible is refused, never repaired.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn, TypeVar, assert_never

from envhub.contracts.events import (
    CallRecorded,
    EpisodeRecorded,
    Event,
    GroupAcked,
    GroupCancelled,
    GroupClosed,
    GroupDropped,
    GroupLeased,
    GroupReturned,
    GroupSubmitted,
    LogRecorded,
    OperatorActed,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    RunStarted,
    ServerMoved,
    SnapshotTaken,
    StepRecorded,
    TurnRecorded,
    VersionAnnounced,
    VersionFailed,
    VersionPending,
)
from envhub.contracts.ids import NO_MEMBER, GroupId, LeaseId, RolloutId, RunId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.store import GroupSummary, RolloutSummary
from envhub.errors import StoreError
from envhub.store import summaries
from envhub.store.text import listed

K = TypeVar("K")
V = TypeVar("V")

NO_LEASE = LeaseId("")
_OPEN = frozenset({MemberState.QUEUED, MemberState.RUNNING, MemberState.PAUSED})
_GIVEN_UP = frozenset({MemberState.DROPPED, MemberState.CANCELLED})


class _Over(dict[K, V]):
    """What was set over another map. What was not is found there; only what was set is counted and listed."""

    __slots__ = ("_under",)

    def __init__(self, under: Mapping[K, V]) -> None:
        super().__init__()
        self._under = under

    def __missing__(self, key: K) -> V:
        return self._under[key]

    def __contains__(self, key: object) -> bool:
        return super().__contains__(key) or key in self._under

    def get(self, key: K, default: V | None = None) -> V | None:  # type: ignore[override]  # nobody asks otherwise
        try:
            return self[key]
        except KeyError:
            return default


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, and how many members were submitted to it."""

    run_id: RunId
    started_at: float
    seed: int
    submitted: int = 0


@dataclass(frozen=True, slots=True)
class Projection:
    """Everything as the events so far left it, each map in the order in which its things came to be."""

    runs: dict[RunId, RunRecord] = field(default_factory=dict)
    groups: dict[GroupId, GroupSummary] = field(default_factory=dict)
    leases: dict[GroupId, LeaseId] = field(default_factory=dict)  # of the live delivery, or NO_LEASE
    rollouts: dict[RolloutId, RolloutSummary] = field(default_factory=dict)

    def after(self, events: Iterable[Event]) -> "Projection":
        """Only what `events` change; this projection stays as it is.

        Raises:
            StoreError: an event that is impossible here.
        """
        changes = Projection(_Over(self.runs), _Over(self.groups), _Over(self.leases), _Over(self.rollouts))
        for event in events:
            changes.apply(event)
        return changes

    def update(self, changes: "Projection") -> None:
        """Takes over what `after` returned."""
        self.runs.update(changes.runs)
        self.groups.update(changes.groups)
        self.leases.update(changes.leases)
        self.rollouts.update(changes.rollouts)

    def apply(self, event: Event) -> None:
        """Moves what the event moves.

        Raises:
            StoreError: the event is impossible here; nothing has moved.
        """
        match event:
            case TurnRecorded():
                self.rollouts[event.rollout_id] = summaries.with_turn(self._rollout(event), event)
            case StepRecorded() | CallRecorded() | SnapshotTaken() | EpisodeRecorded() | LogRecorded():
                self._rollout(event)
            case RolloutStarted():
                self._start_rollout(event)
            case RolloutPaused():
                self._hold_rollout(event, MemberState.RUNNING, MemberState.PAUSED)
            case RolloutContinued():
                self._hold_rollout(event, MemberState.PAUSED, MemberState.RUNNING)
            case RolloutResumed():
                self._resume_rollout(event)
            case RolloutEnded():
                self._end_rollout(event)
            case RunStarted():
                self._start_run(event)
            case VersionPending() | VersionFailed() | VersionAnnounced() | ServerMoved() | OperatorActed():
                self._run(event)
            case GroupSubmitted():
                self._submit(event)
            case GroupClosed():
                self._close(event)
            case GroupLeased():
                self._lease(event)
            case GroupReturned() | GroupAcked():
                self._end_lease(event)
            case GroupDropped():
                self._give_up(event, MemberState.DROPPED)
            case GroupCancelled():
                self._give_up(event, MemberState.CANCELLED)
            case _:
                assert_never(event)

    def _start_run(self, event: RunStarted) -> None:
        if event.run_id in self.runs:
            _refuse(event, "there is a run of that id already; resume it, or choose another id")
        if not event.run_id or listed(event.run_id) != event.run_id:
            _refuse(event, "a run id must be text, and not empty")
        self.runs[event.run_id] = RunRecord(event.run_id, event.at, event.seed)

    def _submit(self, event: GroupSubmitted) -> None:
        run = self._run(event)
        if event.group_id in self.groups:
            _refuse(event, "it was submitted before")
        self.runs[run.run_id] = replace(run, submitted=run.submitted + event.request.size)
        self.leases[event.group_id] = NO_LEASE
        self.groups[event.group_id] = summaries.submitted(event)

    def _start_rollout(self, event: RolloutStarted) -> None:
        group = self._group(event)
        if event.rollout_id in self.rollouts:
            _refuse(event, "it was started before")
        judging = event.member == NO_MEMBER
        if not judging and not 0 <= event.member < len(group.members):
            _refuse(event, f"group '{group.group_id}' has no member {event.member}, only 0..{len(group.members) - 1}")
        if event.parent is None and not judging:
            self._move_member(event, group, event.member, MemberState.QUEUED, MemberState.RUNNING)
        elif event.parent is not None:
            parent = self.rollouts.get(event.parent)
            if parent is None or parent.status is not None:
                _refuse(event, f"its parent '{event.parent}' is not running")
        self.rollouts[event.rollout_id] = summaries.started(event)

    def _hold_rollout(self, event: RolloutPaused | RolloutContinued, before: MemberState, after: MemberState) -> None:
        rollout = self._rollout(event)
        if rollout.status is not None:
            _refuse(event, f"it has ended before, {rollout.status}")
        group = self.groups[rollout.group_id]
        if rollout.is_try and group.members[rollout.member] not in _GIVEN_UP:
            self._move_member(event, group, rollout.member, before, after)

    def _resume_rollout(self, event: RolloutResumed) -> None:
        """A pause ends with the process that it was ordered in."""
        rollout = self._rollout(event)
        if rollout.status is not None:
            _refuse(event, f"it has ended before, {rollout.status}")
        group = self.groups[rollout.group_id]
        if rollout.is_try and group.members[rollout.member] is not MemberState.RUNNING:
            self._move_member(event, group, rollout.member, MemberState.PAUSED, MemberState.RUNNING)

    def _end_rollout(self, event: RolloutEnded) -> None:
        rollout = self._rollout(event)
        if rollout.status is not None:
            _refuse(event, f"it has ended before, {rollout.status}")
        group = self.groups[rollout.group_id]
        # A try may outlive its group, which was given up, for a moment; the member stays as it is.
        if rollout.is_try and group.members[rollout.member] not in _GIVEN_UP:
            before = group.members[rollout.member]
            if before is not MemberState.PAUSED:  # a try may end while a call of it is held
                before = MemberState.RUNNING
            self._move_member(event, group, rollout.member, before, _state_after(event))
        if event.judgement is not None and not event.judgement.scores and not event.requeued:
            self._unjudge(event, group, event.judgement.members)
        self.rollouts[event.rollout_id] = summaries.ended(rollout, event)

    def _unjudge(self, event: RolloutEnded, group: GroupSummary, members: Collection[int]) -> None:
        """Their group's judge gave them no scores."""
        after = MemberState.CANCELLED if event.failure is None else MemberState.FAILED
        for member in members:
            if group.members[member] not in _GIVEN_UP:
                self._move_member(event, self.groups[group.group_id], member, MemberState.SCORED, after)

    def _close(self, event: GroupClosed) -> None:
        group = self._group(event)
        still_open = [index for index, state in enumerate(group.members) if state in _OPEN]
        if group.closed:
            _refuse(event, "it was closed before")
        if still_open and not event.cut:
            _refuse(event, f"members {still_open} have not ended")
        self.groups[group.group_id] = replace(
            group, closed=True, members=_left(group, event) if event.cut else group.members
        )

    def _lease(self, event: GroupLeased) -> None:
        group = self._group(event)
        if not group.closed:
            _refuse(event, "it is not closed yet")
        if not event.lease_id:
            _refuse(event, "a lease needs an id")
        self._move_group(event, group, {MemberState.SCORED: MemberState.LEASED})
        self.groups[group.group_id] = replace(self.groups[group.group_id], deliveries=group.deliveries + 1)
        self.leases[group.group_id] = event.lease_id

    def _end_lease(self, event: GroupReturned | GroupAcked) -> None:
        group = self._group(event)
        lease = self.leases[group.group_id]
        if not group.closed:
            _refuse(event, "it is not closed yet")
        if event.lease_id != lease:
            _refuse(event, f"lease '{event.lease_id}' is not its live one, '{lease}'")
        returned = isinstance(event, GroupReturned)
        before = MemberState.LEASED if lease or returned else MemberState.SCORED
        self._move_group(event, group, {before: MemberState.SCORED if returned else MemberState.ACKED})
        self.leases[group.group_id] = NO_LEASE

    def _give_up(self, event: GroupDropped | GroupCancelled, after: MemberState) -> None:
        group = self._group(event)
        members = tuple(state if state.final else after for state in group.members)
        self.groups[group.group_id] = summaries.with_members(group, members)
        self.leases[group.group_id] = NO_LEASE

    def _move_member(
        self, event: Event, group: GroupSummary, member: int, before: MemberState, after: MemberState
    ) -> None:
        states = group.members
        if states[member] is not before:
            _refuse(event, f"member {member} of '{group.group_id}' is {states[member]}; it needs one that is {before}")
        members = (*states[:member], after, *states[member + 1 :])
        self.groups[group.group_id] = summaries.with_members(group, members)

    def _move_group(self, event: Event, group: GroupSummary, moves: Mapping[MemberState, MemberState]) -> None:
        members = tuple(moves.get(state, state) for state in group.members)
        if members == group.members:
            _refuse(event, f"its members are {', '.join(sorted(set(members)))}; one must be {', '.join(moves)}")
        self.groups[group.group_id] = summaries.with_members(group, members)

    def _run(self, event: Event) -> RunRecord:
        run = self.runs.get(event.run_id)
        return run if run is not None else _refuse(event, "no such run was started")

    def _group(
        self,
        event: RolloutStarted | GroupClosed | GroupLeased | GroupReturned | GroupAcked | GroupDropped | GroupCancelled,
    ) -> GroupSummary:
        group = self.groups.get(event.group_id)
        if group is None or group.run_id != event.run_id:
            _refuse(event, f"run '{event.run_id}' has no group '{event.group_id}'")
        return group

    def _rollout(
        self,
        event: TurnRecorded
        | StepRecorded
        | CallRecorded
        | SnapshotTaken
        | EpisodeRecorded
        | LogRecorded
        | RolloutPaused
        | RolloutContinued
        | RolloutResumed
        | RolloutEnded,
    ) -> RolloutSummary:
        rollout = self.rollouts.get(event.rollout_id)
        if rollout is None or rollout.run_id != event.run_id:
            _refuse(event, f"run '{event.run_id}' has no such rollout")
        return rollout


def _left(group: GroupSummary, event: GroupClosed) -> tuple[MemberState, ...]:
    """Where a cut leaves the members."""
    kept = frozenset(event.members)
    moves = {MemberState.SCORED: MemberState.DROPPED, **dict.fromkeys(_OPEN, MemberState.CANCELLED)}
    return tuple(state if index in kept else moves.get(state, state) for index, state in enumerate(group.members))


def _refuse(event: Event, why: str) -> NoReturn:
    name = getattr(event, "rollout_id", None) or getattr(event, "group_id", None) or event.run_id
    raise StoreError(f"{type(event).__name__} of '{name}' is impossible: {why}")


def _state_after(event: RolloutEnded) -> MemberState:
    if event.requeued:
        return MemberState.QUEUED
    match event.status:
        case Status.FAILED:
            return MemberState.FAILED
        case Status.CANCELLED:
            return MemberState.CANCELLED
    if event.score is None:
        _refuse(event, f"it is {event.status} without a score; without a valid score it has failed")
    return MemberState.SCORED
