"""Resume: what a run that ended too early left behind, put together from its event log.

A member that was running goes on with its try, from its records, where its environment can (see Resume); else it gets a
new try, and the old one is kept, marked failed(operator). A closed group that was not acked is delivered again. Nothing
that was durable is recorded again.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.environment import Resume
from envhub.contracts.events import (
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
    RolloutEnded,
    RolloutStarted,
    RunStarted,
    SnapshotTaken,
    StepRecorded,
    TurnRecorded,
    VersionAnnounced,
    VersionFailed,
    VersionPending,
)
from envhub.contracts.ids import NO_MEMBER, EnvironmentId, GroupId, LeaseId, PolicyId, PolicyVersion, RunId
from envhub.contracts.messages import JsonObject
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.store import TraceStore
from envhub.errors import UsageError
from envhub.rollouts.case import Kept, keep
from envhub.rollouts.deliveries import FAULTLESS, RESTART
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.journal import Journal
from envhub.rollouts.outside import AGENT as OUTSIDE
from envhub.rollouts.replay import ENDED_EARLY, Records, way_of
from envhub.rollouts.submissions import Submission


@dataclass(slots=True)
class Leftover:
    """What is left to do of a run; of a new one, nothing yet."""

    run_id: RunId
    started_at: float
    seed: int
    settings: JsonObject = field(default_factory=dict)
    running: list[RolloutGroup] = field(default_factory=list)
    undelivered: list[tuple[ClosedGroup, int, int]] = field(default_factory=list)  # times delivered, times that failed
    opening: list[Event] = field(default_factory=list)  # to append first: they start the run, or end what nobody runs
    versions: dict[PolicyId, PolicyVersion] = field(default_factory=dict)
    pending: dict[PolicyId, PolicyVersion] = field(default_factory=dict)  # that were being brought in
    accepted: Counter[PolicyId] = field(default_factory=Counter)  # rollouts in closed groups that were not dropped
    submitted: int = 0  # groups
    started: Counter[EnvironmentId] = field(default_factory=Counter)  # groups of the run's own job
    dropped: Counter[EnvironmentId] = field(default_factory=Counter)  # of them, those that closed in vain
    kept: Kept = field(default_factory=dict)
    keys: dict[str, Submission] = field(default_factory=dict)  # of all groups that were submitted with one


async def leftover(store: TraceStore, run_id: RunId) -> Leftover:
    """Reads the log of a run whose process is gone.

    Raises:
        UsageError: the store has no such run.
    """
    reading = _Reading(run_id)
    async for event in store.events(run_id, files=True):
        reading.take(event)
    if reading.started is None:
        raise UsageError(f"no run '{run_id}' in this database; `envhub trace list` shows its runs")
    return reading.leftover(reading.started)


def _of_job(request: GroupRequest) -> bool:
    """Whether the run's own job asked for it: no program outside, and nobody who submits."""
    return request.rollout.agent != OUTSIDE and not request.key


@dataclass(slots=True)
class _Reading:
    run_id: RunId
    started: RunStarted | None = None
    groups: dict[GroupId, RolloutGroup] = field(default_factory=dict)  # not acked, not dropped
    closed: dict[GroupId, GroupClosed] = field(default_factory=dict)
    leases: dict[GroupId, LeaseId] = field(default_factory=dict)
    deliveries: Counter[GroupId] = field(default_factory=Counter)
    failed: Counter[GroupId] = field(default_factory=Counter)  # deliveries
    journal: Journal = field(default_factory=Journal)
    versions: dict[PolicyId, PolicyVersion] = field(default_factory=dict)
    pending: dict[PolicyId, PolicyVersion] = field(default_factory=dict)
    accepted: Counter[PolicyId] = field(default_factory=Counter)
    submitted: int = 0
    started_groups: Counter[EnvironmentId] = field(default_factory=Counter)
    dropped_groups: Counter[EnvironmentId] = field(default_factory=Counter)
    kept: Kept = field(default_factory=dict)
    keys: dict[str, Submission] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.started = event
            case GroupSubmitted():
                self.groups[event.group_id] = RolloutGroup(event.group_id, event.number, event.request)
                self.submitted = max(self.submitted, event.number + 1)
                if event.request.key:
                    self.keys[event.request.key] = Submission.of(event.group_id, event.request)
                if _of_job(event.request):
                    self.started_groups[event.request.rollout.environment.id] += 1
            case RolloutStarted():
                self.journal.take(event)
                if event.parent is None and event.group_id in self.groups:
                    self.groups[event.group_id].attempts[event.member] += 1
            case TurnRecorded() | StepRecorded() | SnapshotTaken() | EpisodeRecorded() | LogRecorded():
                self.journal.take(event)
            case RolloutEnded():
                self._end(event)
            case GroupClosed():
                self.closed[event.group_id] = event
                self._accept(event, len(event.members))
                if not event.members:
                    self._forget(event.group_id)
            case GroupLeased():
                self.leases[event.group_id] = event.lease_id
                self.deliveries[event.group_id] = event.delivery
            case GroupReturned():
                self.leases.pop(event.group_id, None)
                self.failed[event.group_id] += event.reason not in FAULTLESS
            case GroupDropped():
                self._accept(event, -len(self.closed[event.group_id].members))
                if not self.deliveries[event.group_id] and _of_job(self.groups[event.group_id].request):
                    self.dropped_groups[self.groups[event.group_id].request.rollout.environment.id] += 1
                self._forget(event.group_id)
            case GroupAcked() | GroupCancelled():
                self._forget(event.group_id)
            case VersionAnnounced():
                self.versions[event.policy_id] = event.version
                self.pending.pop(event.policy_id, None)
            case VersionPending():
                self.pending[event.policy_id] = event.version
            case VersionFailed():
                self.pending.pop(event.policy_id, None)

    def leftover(self, started: RunStarted) -> Leftover:
        now = time.time()
        rest = Leftover(self.run_id, started.at, started.seed, started.settings)
        rest.versions, rest.pending, rest.accepted = self.versions, self.pending, self.accepted
        rest.kept, rest.keys = self.kept, self.keys
        rest.submitted, rest.started, rest.dropped = self.submitted, self.started_groups, self.dropped_groups
        rest.opening += self._sort(list(self.journal.live.values()))
        for group_id, lease_id in self.leases.items():
            if group_id in self.groups:
                rest.opening.append(GroupReturned(self.run_id, now, group_id, lease_id, RESTART))
        for policy_id, version in self.pending.items():
            rest.opening.append(VersionFailed(self.run_id, now, policy_id, version, "the process that ran it ended"))
        for group_id, group in self.groups.items():
            closing = self.closed.get(group_id)
            if closing is None:
                rest.running.append(group)
            else:
                closed = group.closed(self.run_id, closing.policy_version)
                rest.undelivered.append((closed, self.deliveries[group_id], self.failed[group_id]))
        return rest

    def _sort(self, live: Sequence[Records]) -> Iterator[RolloutEnded]:
        """Gives what goes on to its group, and ends the rest."""
        for records in live:
            if records.start.rollout_id not in self.journal.live:
                continue  # it ended with one above it
            if self._goes_on(records):
                if records.start.parent is None:
                    self.groups[records.start.group_id].earlier[records.start.member] = records
                continue
            for event in list(records.end()):
                self._end(event)
                yield event

    def _goes_on(self, records: Records) -> bool:
        start = records.start
        group = self.groups.get(start.group_id)
        done = group is not None and group.complete and start.member != NO_MEMBER
        if group is None or done or group.id in self.closed or records.aborted:
            return False
        return way_of(start) is not Resume.RESTART

    def _end(self, event: RolloutEnded) -> None:
        ended = self.journal.take(event)
        assert ended is not None
        group = self.groups.get(ended.start.group_id)
        if ended.start.parent is not None or group is None:
            return
        if not event.requeued and ended.start.judges:
            group.end_judging(ended.outcome)
            keep(self.kept, group.request, ended.outcome)
        elif not event.requeued:
            group.outcomes[ended.start.member] = ended.outcome
        elif event.failure is not None and event.failure != ENDED_EARLY:
            group.tries_again(ended.start.member, event.failure)

    def _accept(self, event: GroupClosed | GroupDropped, rollouts: int) -> None:
        self.accepted[self.groups[event.group_id].request.rollout.policy_id] += rollouts

    def _forget(self, group_id: GroupId) -> None:
        self.groups.pop(group_id, None)
