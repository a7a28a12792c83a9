"""RolloutManager: takes groups, runs their members, closes them and hands them on.

Invariants: every submitted member ends in exactly one final state, and the store says which; a member without a valid
score is in no closed group; a group is handed on once, after all its events are durable.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.delivery import ClosedGroup, RunState
from envhub.contracts.events import GroupCancelled, GroupClosed, GroupSubmitted, RolloutStarted, VersionAnnounced
from envhub.contracts.ids import GroupId, PolicyId, PolicyVersion, RunId, derive_seed, group_id, member_rollout_id
from envhub.contracts.outcome import Outcome
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UnknownName, UsageError
from envhub.registry import agents, environments, judges
from envhub.rollouts.deliveries import Outlet
from envhub.rollouts.episode import run_member
from envhub.rollouts.platform import Platform
from envhub.rollouts.recorder import check_recordable

BACKOFF_S = 0.5  # before the second try; doubled for each one after
LONGEST_BACKOFF_S = 30.0


@dataclass(slots=True, eq=False)
class RolloutGroup:
    """The K members of one task while they run."""

    id: GroupId
    number: int
    request: GroupRequest
    outcomes: dict[int, Outcome] = field(default_factory=dict)  # by member; those that ended
    attempts: Counter[int] = field(default_factory=Counter)  # tries that were started, by member
    failures: Counter[int] = field(default_factory=Counter)  # tries that failed by themselves and are made up for
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)  # all its members have
    handed_on: anyio.Event = field(default_factory=anyio.Event)  # to a consumer's queue, which may have been full

    def closed(self, run_id: RunId, version: PolicyVersion) -> ClosedGroup:
        """The group with the members that have a valid score."""
        valid = tuple(member for member, outcome in sorted(self.outcomes.items()) if outcome.score is not None)
        outcomes = tuple(self.outcomes[member] for member in valid)
        return ClosedGroup(run_id, self.id, self.number, self.request, valid, outcomes, version)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run starts, or goes on."""

    run_id: RunId
    seed: int
    submitted: int = 0  # groups, so far
    versions: Mapping[PolicyId, PolicyVersion] = field(default_factory=dict)  # announced so far


class RolloutManager:
    """Runs the groups of one run on one worker. Open it with `open_manager`."""

    def __init__(self, origin: Origin, platform: Platform, outlet: Outlet, tasks: TaskGroup, max_groups: int) -> None:
        self._run_id = origin.run_id
        self._seed = origin.seed
        self._submitted = origin.submitted
        self._versions = dict(origin.versions)
        self._platform = platform
        self._outlet = outlet
        self._tasks = tasks
        self._room = anyio.Semaphore(max_groups)
        self._groups: dict[GroupId, RolloutGroup] = {}  # those that were not handed on yet
        self._finishing = False

    async def submit(self, request: GroupRequest) -> GroupId:
        return (await self.start(request)).id

    async def start(self, request: GroupRequest) -> RolloutGroup:
        """Queues a group; waits first while as many as the run may hold have not ended.

        Raises:
            UnknownName: the environment, agent, judge or policy does not exist.
        """
        self._check(request)
        check_recordable(GroupSubmitted(self._run_id, 0.0, GroupId(""), 0, request))
        await self._room.acquire()
        if self._finishing:
            self._room.release()
            raise UsageError("the run is finishing and takes no more groups; start another run")
        number = self._submitted
        self._submitted += 1
        group = RolloutGroup(group_id(self._run_id, number), number, request)
        self._platform.recorder.emit(GroupSubmitted(self._run_id, time.time(), group.id, number, request))
        self._run(group)
        return group

    async def resume(self, group: RolloutGroup) -> None:
        """Goes on with a group of an earlier process: its members without an outcome get a new try."""
        await self._room.acquire()
        self._run(group)

    async def finish(self) -> None:
        """Waits until every group has ended and was handed on. No more is taken from now on."""
        self._finishing = True
        for group in list(self._groups.values()):
            await group.handed_on.wait()
        self._outlet.close()

    async def cancel(self, group_id: GroupId) -> None:
        """Ends a group now: what runs is cancelled, none of it is handed on."""
        group = self._running(group_id)
        group.scope.cancel()
        await group.handed_on.wait()

    async def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        newest = self._versions.get(policy_id, PolicyVersion(0))
        if policy_id not in self._platform.policies:
            raise UnknownName.of("policy", policy_id, self._platform.policies)
        if version < newest:
            raise UsageError(f"version {version} of policy '{policy_id}' is below the newest announced one, {newest}")
        self._versions[policy_id] = version
        self._platform.recorder.emit(VersionAnnounced(self._run_id, time.time(), policy_id, version))
        await self._platform.recorder.flush()

    async def state(self) -> RunState:
        recorder = self._platform.recorder
        await recorder.flush()
        members = next(run.members for run in await recorder.store.runs() if run.run_id == self._run_id)
        return RunState(self._run_id, members, dict(self._versions))

    def _check(self, request: GroupRequest) -> None:
        rollout = request.rollout
        environments.get(rollout.environment.id)
        agents.get(rollout.agent)
        if rollout.judge:
            judges.get(rollout.judge)
        if rollout.policy_id not in self._platform.policies:
            raise UnknownName.of("policy", rollout.policy_id, self._platform.policies)

    def _running(self, id: GroupId) -> RolloutGroup:
        group = self._groups.get(id)
        if group is None or group.ended.is_set():
            raise UsageError(f"group '{id}' is not running; it has ended or was never submitted")
        return group

    def _run(self, group: RolloutGroup) -> None:
        self._groups[group.id] = group
        self._tasks.start_soon(self._run_group, group)

    async def _run_group(self, group: RolloutGroup) -> None:
        with group.scope:
            async with anyio.create_task_group() as members:
                for member in range(group.request.k):
                    if member not in group.outcomes:
                        members.start_soon(self._run_member, group, member)
        group.ended.set()
        if group.scope.cancel_called:  # also where all its members had ended in that very moment
            self._platform.recorder.emit(GroupCancelled(self._run_id, time.time(), group.id))
        else:
            await self._hand_on(group)
        del self._groups[group.id]
        group.handed_on.set()
        self._room.release()

    async def _run_member(self, group: RolloutGroup, member: int) -> None:
        while True:
            may_retry = group.failures[member] + 1 < group.request.max_tries
            start = self._member_start(group, member, group.attempts[member])
            group.attempts[member] += 1
            outcome = await run_member(start, self._platform, may_retry=may_retry)
            if outcome.failure is None or not outcome.failure.retryable or not may_retry:
                group.outcomes[member] = outcome
                return
            group.failures[member] += 1
            await anyio.sleep(min(BACKOFF_S * 2 ** (group.failures[member] - 1), LONGEST_BACKOFF_S))

    def _member_start(self, group: RolloutGroup, member: int, attempt: int) -> RolloutStarted:
        id = member_rollout_id(group.id, member, attempt)
        task = group.request.rollout.task
        return RolloutStarted(
            run_id=self._run_id,
            at=time.time(),
            rollout_id=id,
            group_id=group.id,
            member=member,
            attempt=attempt,
            parent=None,
            root=id,
            request=group.request.rollout,
            seed=derive_seed(self._seed, group.number, member, attempt),
            environment_seed=derive_seed(self._seed, group.number) if task.seed is None else task.seed,
        )

    async def _hand_on(self, group: RolloutGroup) -> None:
        version = self._versions.get(group.request.rollout.policy_id, PolicyVersion(0))
        closed = group.closed(self._run_id, version)
        recorder = self._platform.recorder
        recorder.emit(GroupClosed(self._run_id, time.time(), group.id, closed.members, version))
        await recorder.flush()
        if closed.members:
            await self._outlet.put(closed)


@asynccontextmanager
async def open_manager(
    origin: Origin, platform: Platform, outlet: Outlet, *, max_groups: int
) -> AsyncIterator[RolloutManager]:
    """A manager whose groups run until they have ended; leaving early by an exception cancels them."""
    async with anyio.create_task_group() as tasks:
        yield RolloutManager(origin, platform, outlet, tasks, max_groups)
