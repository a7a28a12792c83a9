"""Deliveries and a Control in memory, with groups made up or given: what a feed serves where there is no run."""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import anyio
import numpy as np

from envhub.contracts.delivery import (
    UPDATE_S,
    Admits,
    ClosedGroup,
    Delivery,
    Hear,
    News,
    NewsKind,
    RunLimits,
    RunState,
    admit_all,
)
from envhub.contracts.ids import (
    TRAINED,
    EnvironmentId,
    GroupId,
    LeaseId,
    PolicyId,
    PolicyVersion,
    RunId,
    group_id,
    member_rollout_id,
)
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.messages import Role
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.pause import PauseMode, Scope
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import Span
from envhub.errors import LeaseLost, UpdateFailed, UsageError

RUN = RunId("run")
BROKEN = "broken"  # weights that no engine takes


def closed_group(
    number: int, rewards: Iterable[float] = (0.0, 1.0), *, prompt: int = 3, sampled: int = 4
) -> ClosedGroup:
    """A group with a member of one row for each reward: `prompt` tokens, then `sampled` trainable ones."""
    group = group_id(RUN, number)
    spans = (
        Span(0, prompt, Role.USER, turn=0),
        Span(prompt, prompt + sampled, Role.ASSISTANT, True, True, TRAINED, PolicyVersion(0), 1.0, 0),
    )
    logprobs = np.zeros(prompt + sampled, np.float32)
    logprobs[prompt:] = -0.5
    row = Row(np.arange(prompt + sampled, dtype=np.int32), logprobs, spans, turns=(0,))
    outcomes = tuple(
        Outcome(member_rollout_id(group, member, 0), Status.COMPLETED, Trajectory((row,)), Score(reward))
        for member, reward in enumerate(rewards)
    )
    task = Task.ask(f"task {number}")
    request = GroupRequest(RolloutRequest(EnvironmentRef(EnvironmentId("fake/env-v0")), task), k=len(outcomes))
    return ClosedGroup(RUN, group, number, request, tuple(range(len(outcomes))), outcomes, PolicyVersion(0))


class FakeDeliveries:
    """Deliveries and Control over the groups given. Leases expire when told to, not by a clock; a group that is
    submitted closes at once.

    Raises:
        UsageError: from announce, a version below the newest; from submit, while it drains.
    """

    def __init__(self, groups: Iterable[ClosedGroup], *, lease_s: float = 60.0) -> None:
        self.waiting = deque(groups)
        self.leased: dict[LeaseId, ClosedGroup] = {}
        self.acked: list[GroupId] = []
        self._acks: set[LeaseId] = set()
        self.returned: list[tuple[GroupId, str]] = []
        self.consumers: list[str] = []  # of every lease, in order
        self.most_leased = 0
        self.waiters = 0  # consumers that wait for a group now
        self.versions: dict[PolicyId, PolicyVersion] = {}
        self.updating: dict[PolicyId, PolicyVersion] = {}
        self.weights: dict[PolicyId, str] = {}  # that updates brought
        self.servers: dict[str, PolicyId] = {}  # that were moved
        self._lease_s = lease_s
        self._now = 0.0
        self._counts: Counter[GroupId] = Counter()
        self._submitted = sum(len(group.members) for group in self.waiting)
        self._sizes = {group.group_id: len(group.members) for group in self.waiting}
        self.submitted: dict[str, ClosedGroup] = {}  # by key
        self.paused: dict[Scope, PauseMode] = {}
        self.aborted: list[Scope] = []
        self.limits = RunLimits()
        self.draining = False
        self.hearers: list[Hear] = []
        self._changed = anyio.Event()

    async def lease(self, consumer: str, admits: Admits = admit_all) -> Delivery | None:
        if not await self._any_waiting(admits):
            return None
        group = self.waiting.popleft()
        self._counts[group.group_id] += 1
        count = self._counts[group.group_id]
        lease_id = LeaseId(f"{group.group_id}/{count}")
        self.leased[lease_id] = group
        self.most_leased = max(self.most_leased, len(self.leased))
        self.consumers.append(consumer)
        self._notify()
        return Delivery(lease_id, group, count, self._deadline(), self._lease_s)

    async def ack(self, lease_id: LeaseId) -> bool:
        if lease_id in self._acks:
            return False
        self.acked.append(self._take(lease_id).group_id)
        self._acks.add(lease_id)
        return True

    async def nack(self, lease_id: LeaseId, reason: str) -> None:
        group = self._take(lease_id)
        self.returned.append((group.group_id, reason))
        self.waiting.appendleft(group)

    async def give_back(self, lease_id: LeaseId) -> None:
        await self.nack(lease_id, "disconnected")

    async def extend(self, lease_id: LeaseId) -> float:
        self._holder(lease_id)
        return self._deadline()

    async def expire(self, lease_id: LeaseId) -> None:
        """Ends a lease as its deadline would."""
        self._tell(News(NewsKind.EXPIRED, self._holder(lease_id).group_id, lease_id))
        await self.nack(lease_id, "expired")

    def drop(self, kind: NewsKind) -> None:
        """The first group in line is delivered no more."""
        self._tell(News(kind, self.waiting.popleft().group_id, LeaseId("")))

    @contextmanager
    def news(self, hear: Hear) -> Iterator[None]:
        self.hearers.append(hear)
        self._notify()
        try:
            yield
        finally:
            self.hearers.remove(hear)

    async def until(self, condition: Callable[[], object]) -> None:
        """Waits for what a lease that is given or ends will make true."""
        while not condition():
            await self._changed.wait()

    async def submit(self, request: GroupRequest) -> GroupId:
        if self.draining:
            raise UsageError("the run is draining and takes no more groups; start another run")
        if request.key not in self.submitted:
            group = replace(closed_group(len(self._sizes), [0.0] * request.k), request=request)
            self.submitted[request.key] = group
            self._sizes[group.group_id] = request.k
            self._submitted += request.k
            self.waiting.append(group)
            self._notify()
        return self.submitted[request.key].group_id

    async def cancel(self, group_id: GroupId) -> None:
        if group_id not in {group.group_id for group in self.waiting}:
            raise UsageError(f"group '{group_id}' is not running; it has ended or was never submitted")
        self.waiting = deque(group for group in self.waiting if group.group_id != group_id)

    async def pause(self, scope: Scope = Scope(), mode: PauseMode = PauseMode.CUT) -> None:
        if scope in self.paused:
            raise UsageError("that scope is paused")
        self.paused[scope] = mode

    async def resume(self, scope: Scope = Scope(), *, pinned: bool = False) -> None:
        if self.paused.pop(scope, None) is None:
            raise UsageError("that scope is not paused")

    async def abort(self, scope: Scope) -> None:
        self.aborted.append(scope)

    async def drain(self) -> None:
        self.draining = True

    async def limit(self, limits: RunLimits) -> None:
        self.limits = limits

    async def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        newest = self.versions.get(policy_id, version)
        if version < newest:
            raise UsageError(f"version {version} of policy '{policy_id}' is older than {newest}, the newest announced")
        self.versions[policy_id] = version

    async def update(
        self, policy_id: PolicyId, version: PolicyVersion, *, weights: str = "", deadline_s: float = UPDATE_S
    ) -> None:
        await self.begin_update(policy_id, version, deadline_s=deadline_s)
        if weights == BROKEN:
            del self.updating[policy_id]
            raise UpdateFailed(f"version {version} of policy '{policy_id}' is not live: the weights are broken")
        self.weights[policy_id] = weights
        await self.finish_update(policy_id, version)

    async def begin_update(self, policy_id: PolicyId, version: PolicyVersion, *, deadline_s: float = UPDATE_S) -> None:
        self.updating[policy_id] = version

    async def finish_update(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        if self.updating.pop(policy_id, None) != version:
            raise UsageError(f"no update of policy '{policy_id}' to version {version} is going on; begin it first")
        await self.announce(policy_id, version)

    async def move_server(self, server: str, policy_id: PolicyId, *, weights: str = "") -> None:
        self.servers[server] = policy_id

    async def state(self) -> RunState:
        acked = sum(self._sizes[group] for group in self.acked)
        counts = {MemberState.ACKED: acked, MemberState.SCORED: self._submitted - acked}
        members = MemberCounts(self._submitted, counts)
        return RunState(RUN, members, dict(self.versions), self.limits, self.draining)

    async def _any_waiting(self, admits: Admits) -> bool:
        """Waits until there is a group to lease; False where there will be none."""
        self.waiters += 1
        self._notify()
        try:
            while not admits(self.waiting[0]) if self.waiting else self.leased:
                await self._changed.wait()
        finally:
            self.waiters -= 1
        return bool(self.waiting)

    def _deadline(self) -> float:
        self._now += 1.0
        return self._now + self._lease_s

    def _holder(self, lease_id: LeaseId) -> ClosedGroup:
        if lease_id not in self.leased:
            raise LeaseLost(f"lease '{lease_id}' expired, was returned, or was never given")
        return self.leased[lease_id]

    def _take(self, lease_id: LeaseId) -> ClosedGroup:
        group = self._holder(lease_id)
        del self.leased[lease_id]
        self._notify()
        return group

    def _tell(self, news: News) -> None:
        for hear in self.hearers:
            hear(news)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
