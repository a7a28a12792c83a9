"""Resume: what a run that ended too early left behind, put together from its event log.

A member that was running goes on with its try, from its records, where its environment can (see Resume); else it gets a
new try, and the old one is kept, marked failed(operator). A closed group that was not acked is delivered again. Nothing
that was durable is recorded again.

What rollouts did is read of those groups alone that are open, or have rollouts that run. Of all others it stays in the
store: a run may have recorded more than fits in memory.
"""

import time
from collections import Counter
from dataclasses import dataclass, field

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
from envhub.contracts.ids import EnvironmentId, GroupId, LeaseId, PolicyId, PolicyVersion, RolloutId, RunId
from envhub.contracts.messages import JsonObject
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.store import TraceStore
from envhub.errors import UsageError
from envhub.rollouts.case import Kept, keep
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.group_log import GroupLog
from envhub.rollouts.leases import FAULTLESS, NO_LEASE, RESTART
from envhub.rollouts.outside import AGENT as OUTSIDE
from envhub.rollouts.stored_group import StoredGroup
from envhub.rollouts.submissions import Submission

OUTLINE = (
    RunStarted,
    GroupSubmitted,
    RolloutStarted,
    RolloutEnded,
    GroupClosed,
    GroupLeased,
    GroupReturned,
    GroupDropped,
    GroupAcked,
    GroupCancelled,
    VersionPending,
    VersionFailed,
    VersionAnnounced,
)
REPLAYED = (RolloutStarted, TurnRecorded, StepRecorded, SnapshotTaken, EpisodeRecorded, LogRecorded, RolloutEnded)


@dataclass(slots=True)
class Leftover:
    """What is left to do of a run; of a new one, nothing yet."""

    run_id: RunId
    started_at: float
    seed: int
    settings: JsonObject = field(default_factory=dict)
    running: list[RolloutGroup] = field(default_factory=list)
    undelivered: list[StoredGroup] = field(default_factory=list)
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
    outline = _Outline(Leftover(run_id, 0.0, 0))
    async for event in store.events(run_id, kinds=OUTLINE, files=True):
        outline.take(event)
    if not outline.begun:
        raise UsageError(f"no run '{run_id}' in this database; `envhub trace list` shows its runs")
    for group in outline.groups.values():
        await outline.leave(group, store)
    return outline.ended()


def _of_job(request: GroupRequest) -> bool:
    """Whether the run's own job asked for it: no program outside, and nobody who submits."""
    return request.rollout.agent != OUTSIDE and not request.key


@dataclass(slots=True)
class _Group:
    """What the outline says of a group."""

    submitted: GroupSubmitted
    rollouts: list[RolloutId] = field(default_factory=list)
    running: int = 0  # of them
    closing: GroupClosed | None = None
    lease_id: LeaseId = NO_LEASE
    deliveries: int = 0
    failed: int = 0  # deliveries
    over: bool = False  # acked, dropped, cancelled, or closed in vain

    @property
    def request(self) -> GroupRequest:
        return self.submitted.request


@dataclass(slots=True)
class _Outline:
    """How far a run came, but for what its rollouts did."""

    rest: Leftover
    begun: bool = False
    groups: dict[GroupId, _Group] = field(default_factory=dict)  # those that are not over, or have rollouts that run
    _running: dict[RolloutId, RolloutStarted] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self.begun = True
                self.rest.started_at, self.rest.seed, self.rest.settings = event.at, event.seed, event.settings
            case GroupSubmitted():
                self._submit(event)
            case RolloutStarted():
                self._running[event.rollout_id] = event
                self.groups[event.group_id].rollouts.append(event.rollout_id)
                self.groups[event.group_id].running += 1
            case RolloutEnded():
                self._end(event)
            case GroupClosed() | GroupDropped() | GroupAcked() | GroupCancelled():
                self._close(event, self.groups[event.group_id])
            case GroupLeased():
                group = self.groups[event.group_id]
                group.lease_id, group.deliveries = event.lease_id, event.delivery
            case GroupReturned():
                group = self.groups[event.group_id]
                group.lease_id = NO_LEASE
                group.failed += event.reason not in FAULTLESS
            case VersionPending():
                self.rest.pending[event.policy_id] = event.version
            case VersionFailed():
                self.rest.pending.pop(event.policy_id, None)
            case VersionAnnounced():
                self.rest.versions[event.policy_id] = event.version
                self.rest.pending.pop(event.policy_id, None)

    async def leave(self, group: _Group, store: TraceStore) -> None:
        """Adds what is left to do of a group."""
        rest, open = self.rest, not group.over and group.closing is None
        if open or group.running:
            asked = group.submitted
            log = GroupLog(RolloutGroup(asked.group_id, asked.number, asked.request) if open else None)
            for event in await store.events_of(rest.run_id, group.rollouts, REPLAYED, files=True):
                log.take(event)
            rest.opening += log.settle()
            rest.running += [log.group] if log.group else []
        if group.closing and not group.over:
            stored = StoredGroup(store, group.submitted, group.closing, group.rollouts, group.deliveries, group.failed)
            rest.undelivered.append(stored)

    def ended(self) -> Leftover:
        """All that is left, with the end of what nobody holds any more."""
        rest, now = self.rest, time.time()
        for group_id, group in self.groups.items():
            if group.lease_id and not group.over:
                rest.opening.append(GroupReturned(rest.run_id, now, group_id, group.lease_id, RESTART))
        for policy_id, version in rest.pending.items():
            rest.opening.append(VersionFailed(rest.run_id, now, policy_id, version, "the process that ran it ended"))
        return rest

    def _submit(self, event: GroupSubmitted) -> None:
        request, rest = event.request, self.rest
        self.groups[event.group_id] = _Group(event)
        rest.submitted = max(rest.submitted, event.number + 1)
        if request.key:
            rest.keys[request.key] = Submission.of(event.group_id, request)
        if _of_job(request):
            rest.started[request.rollout.environment.id] += 1

    def _end(self, event: RolloutEnded) -> None:
        group_id = self._running.pop(event.rollout_id).group_id
        group = self.groups[group_id]
        group.running -= 1
        if event.judgement and not event.requeued and not group.over:
            keep(self.rest.kept, group.request, event.judgement)
        self._forget_over(group_id)

    def _close(self, event: GroupClosed | GroupDropped | GroupAcked | GroupCancelled, group: _Group) -> None:
        rest, policy_id = self.rest, group.request.rollout.policy_id
        match event:
            case GroupClosed():
                group.closing = event
                rest.accepted[policy_id] += len(event.members)
            case GroupDropped():
                assert group.closing is not None
                rest.accepted[policy_id] -= len(group.closing.members)
                if not group.deliveries and _of_job(group.request):
                    rest.dropped[group.request.rollout.environment.id] += 1
        group.over = not (isinstance(event, GroupClosed) and event.members)
        self._forget_over(event.group_id)

    def _forget_over(self, group_id: GroupId) -> None:
        group = self.groups[group_id]
        if group.over and not group.running:
            del self.groups[group_id]
