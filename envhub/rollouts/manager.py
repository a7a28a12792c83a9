"""RolloutManager: takes groups, runs their members, closes them and hands them on.

Invariants: every submitted member ends in exactly one final state, and the store says which; a member without a valid
score is in no closed group; a group is handed on once, after all its events are durable.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.delivery import UPDATE_S, ClosedGroup, RunLimits, RunState
from envhub.contracts.events import (
    GroupCancelled,
    GroupClosed,
    GroupDropped,
    GroupSubmitted,
    VersionAnnounced,
)
from envhub.contracts.ids import GroupId, PolicyId, PolicyVersion, RunId, group_id
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import GroupRequest
from envhub.errors import UnknownName, UsageError
from envhub.registry import agents, context_strategy, environments, group_judges, judges
from envhub.rollouts import filters
from envhub.rollouts.case import Kept, check_policies
from envhub.rollouts.frontier import Frontier
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.outlet import Outlet
from envhub.rollouts.recorder import Recorder, check_recordable
from envhub.rollouts.room import Room
from envhub.rollouts.stored_group import StoredGroup
from envhub.rollouts.submissions import Keys, Submissions
from envhub.rollouts.tries import Tries
from envhub.rollouts.updates import Updates, open_updates
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import Workers


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run starts, or goes on."""

    run_id: RunId
    seed: int
    submitted: int = 0  # groups, so far
    kept: Kept = field(default_factory=dict)
    pending: tuple[PolicyId, ...] = ()  # whose weights were being updated when the process ended
    keys: Keys = field(default_factory=dict)  # of submissions


class RolloutManager:
    """Runs the groups of one run. Open it with `open_manager`."""

    def __init__(
        self,
        origin: Origin,
        workers: Workers,
        recorder: Recorder,
        outlet: Outlet,
        versions: Versions,
        tasks: TaskGroup,
        max_groups: int,
    ) -> None:
        self._run_id = origin.run_id
        self._submitted = origin.submitted
        self._tries = Tries(origin.run_id, origin.seed, origin.kept, workers, versions)
        self._versions = versions
        self._workers = workers
        self._recorder = recorder
        self._outlet = outlet
        self._tasks = tasks
        self._room = Room(max_groups)
        self._submissions = Submissions(origin.keys)
        self._waiting: set[anyio.CancelScope] = set()  # submissions, for room
        self._groups: dict[GroupId, RolloutGroup] = {}  # those that were not handed on yet
        self.draining = False
        self.frontier = Frontier()
        self.updates: Updates  # once it is open

    async def submit(self, request: GroupRequest) -> GroupId:
        async def start(request: GroupRequest) -> GroupId:
            return (await self.start(request)).id

        return await self._submissions.once(request, start)

    async def start(self, request: GroupRequest) -> RolloutGroup:
        """Queues a group; waits first while as many as the run may hold have not ended.

        Raises:
            UnknownName: the environment, agent, judge or policy does not exist.
            UsageError: the run is draining.
        """
        self._check(request)
        check_recordable(GroupSubmitted(self._run_id, 0.0, GroupId(""), 0, request))
        await self._admit(request)
        number = self._submitted
        self._submitted += 1
        version = self._versions.newest(request.rollout.policy_id)
        group = RolloutGroup(group_id(self._run_id, number), number, request, version)
        self._recorder.emit(GroupSubmitted(self._run_id, time.time(), group.id, number, request))
        self._run(group)
        return group

    async def _admit(self, request: GroupRequest) -> None:
        """Waits until the run may hold one more group."""
        admitted = False
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                if not self.draining:
                    await self._room.acquire()
                    try:
                        await self._versions.admit(request)
                        admitted = True
                    finally:
                        if not admitted:
                            self._room.release()
            finally:
                self._waiting.discard(scope)
        if not admitted:
            raise UsageError("the run is draining and takes no more groups; start another run")

    async def go_on(self, group: RolloutGroup) -> None:
        """Goes on with a group of an earlier process: a member without an outcome with its try, or with a new one."""
        await self._room.acquire()
        self._versions.take(group.request)
        self._run(group)

    async def hand_on(self, group: ClosedGroup) -> str:
        """Hands a closed group to the outlet, or drops it where it is too short or a filter refuses it; returns why, ""
        where it was handed on."""
        refused = await self._refused(group)
        await self._recorder.flush()
        if not refused:
            await self._outlet.put(group)
        return refused

    async def hand_on_stored(self, group: StoredGroup) -> None:
        """As hand_on, of a group that an earlier process closed. One that was delivered before is not looked at."""
        if group.deliveries or not await self._refused(await group.read()):
            await self._outlet.put_stored(group)

    async def finish(self) -> None:
        """As settle; consumers learn that no group comes any more."""
        await self.settle()
        self._outlet.close()

    async def settle(self) -> None:
        """Waits until every group has ended and was handed on. No more is taken from now on."""
        self.draining = True
        for scope in self._waiting:
            scope.cancel()
        for group in list(self._groups.values()):
            await group.handed_on.wait()

    async def cancel(self, group_id: GroupId) -> None:
        """Ends a group now: what runs is cancelled, none of it is handed on."""
        group = self._running(group_id)
        group.scope.cancel()
        await group.handed_on.wait()

    async def drain(self) -> None:
        await self.finish()

    async def limit(self, limits: RunLimits) -> None:
        if limits.max_running is not None:
            await self._workers.limit(limits.max_running)
        if limits.max_groups is not None:
            self._room.resize(limits.max_groups)

    async def pause(self, scope: Scope = Scope(), mode: PauseMode = PauseMode.CUT) -> None:
        await self._workers.pause(scope, mode)

    async def resume(self, scope: Scope = Scope(), *, pinned: bool = False) -> None:
        await self._workers.resume(scope, pinned=pinned)

    async def abort(self, scope: Scope) -> None:
        await self._workers.abort(scope)

    async def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        if policy_id not in self._workers.policies:
            raise UnknownName.of("policy", policy_id, self._workers.policies)
        self._versions.announce(policy_id, version)
        self._workers.announce(policy_id, version)
        self._recorder.emit(VersionAnnounced(self._run_id, time.time(), policy_id, version))
        await self._recorder.flush()

    async def update(
        self, policy_id: PolicyId, version: PolicyVersion, *, weights: str = "", deadline_s: float = UPDATE_S
    ) -> None:
        await self.updates.update(policy_id, version, weights, deadline_s)

    async def begin_update(self, policy_id: PolicyId, version: PolicyVersion, *, deadline_s: float = UPDATE_S) -> None:
        await self.updates.begin(policy_id, version, deadline_s)

    async def finish_update(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        await self.updates.finish(policy_id, version)

    async def move_server(self, server: str, policy_id: PolicyId, *, weights: str = "") -> None:
        await self.updates.move(server.rstrip("/"), policy_id, weights)

    async def cancel_stale(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """Ends what could never be delivered once that version is the newest: groups in which a member ended with
        tokens that are too old, and members that hold such tokens while they run."""
        needed = self._versions.needed(version)
        if needed is None:
            return
        for id in self.frontier.groups(policy_id, needed):
            if id in self._groups:
                self._groups[id].scope.cancel()
        for rollout_id in self.frontier.rollouts(policy_id, needed):
            await self._workers.abort(Scope(rollout_id=rollout_id))

    async def state(self) -> RunState:
        recorder = self._recorder
        await recorder.flush()
        members = next(run.members for run in await recorder.store.runs() if run.run_id == self._run_id)
        limits = RunLimits(self._room.size, self._workers.max_running)
        return RunState(self._run_id, members, self._versions.announced, limits, self.draining)

    def _check(self, request: GroupRequest) -> None:
        rollout = request.rollout
        environments.get(rollout.environment.id)
        agents.get(rollout.agent)
        context_strategy(rollout)
        policies = self._workers.policies
        if rollout.judge:
            check_policies(judges.get(rollout.judge), f"judge '{rollout.judge}'", policies)
        if request.group_judge:
            check_policies(group_judges.get(request.group_judge), f"group judge '{request.group_judge}'", policies)
        for reference in request.filters:
            filters.check(reference)
        self._versions.check(request)
        if rollout.policy_id not in policies:
            raise UnknownName.of("policy", rollout.policy_id, policies)

    async def _refused(self, group: ClosedGroup) -> str:
        """Why a closed group was dropped just now; "" where it was not."""
        short = len(group.members) < group.request.min_k
        reason = "short" if short else await filters.refusal(group)
        if reason:
            self._recorder.emit(GroupDropped(self._run_id, time.time(), group.group_id, reason))
            self._versions.drop(group)
        return reason

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
            with group.members:
                async with anyio.create_task_group() as members:
                    for member in group.open_members():
                        members.start_soon(self._tries.run, group, member)
            await self._tries.judge(group)
        group.ended.set()
        if group.scope.cancel_called:  # also where all its members had ended in that very moment
            self._recorder.emit(GroupCancelled(self._run_id, time.time(), group.id))
            self._versions.close(group.request, 0)
        else:
            await self._close(group)
        del self._groups[group.id]
        group.handed_on.set()
        self._room.release()

    async def _close(self, group: RolloutGroup) -> None:
        """Closes a group and hands on what there is of it."""
        closed = group.closed(self._run_id, self._versions.newest(group.request.rollout.policy_id))
        recorder = self._recorder
        recorder.emit(
            GroupClosed(self._run_id, time.time(), group.id, closed.members, closed.policy_version, group.cut)
        )
        self._versions.close(group.request, len(closed.members))
        if closed.members:
            group.dropped = await self.hand_on(closed)
        else:
            await recorder.flush()


@asynccontextmanager
async def open_manager(
    origin: Origin, workers: Workers, recorder: Recorder, outlet: Outlet, versions: Versions, *, max_groups: int
) -> AsyncIterator[RolloutManager]:
    """A manager whose groups run until they have ended; leaving early by an exception cancels them."""
    for policy_id, version in versions.announced.items():
        workers.announce(policy_id, version)
    async with anyio.create_task_group() as tasks:
        manager = RolloutManager(origin, workers, recorder, outlet, versions, tasks, max_groups)
        if versions.drops_stale:  # nobody asks for it else, and every event passes through it
            recorder.listen(manager.frontier.take)
        announce, cancel_stale = manager.announce, manager.cancel_stale
        async with open_updates(origin.run_id, workers, versions, recorder, announce, cancel_stale) as manager.updates:
            for policy_id in origin.pending:
                await manager.updates.let_go(policy_id)
            yield manager
