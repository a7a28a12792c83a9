"""Aftermath: what a simulated run left, and what of it breaks an invariant."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupLeased,
    LogRecorded,
    RolloutEnded,
    RolloutStarted,
    VersionAnnounced,
)
from envhub.contracts.ids import GroupId, LeaseId, PolicyVersion
from envhub.contracts.members import MemberCounts
from envhub.contracts.rollout import Limits
from envhub.contracts.sandbox_pool import PoolStats
from envhub.contracts.usage import Usage
from envhub.monitor.run_check import Finding
from envhub.testing.scenario import Scenario
from envhub.testing.simulation_environments import LOST


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a scenario left."""

    scenario: Scenario
    members: MemberCounts
    events: tuple[Event, ...]
    findings: tuple[Finding, ...]
    trained: Counter[GroupId]  # times that a consumer's ack of the group succeeded
    oldest: Mapping[LeaseId, PolicyVersion]  # that trains, of what was delivered under that lease
    free_slots: int
    sandboxes: PoolStats
    left: tuple[str, ...]  # of sandboxes and snapshots
    deaths: int  # of processes
    ended_at: float  # seconds of virtual time

    def broken(self) -> list[str]:
        """What does not hold of it, in words; nothing, where all is well."""
        claims = {
            f"members are left: {self.members.equation()}": self.members.drained,
            f"{self.members.submitted} members were submitted": self.members.submitted == self.scenario.members,
            f"{self.free_slots} of {self.scenario.max_running} slots came back": self.free_slots
            == self.scenario.max_running,
            f"leases of sandboxes are left: {self.sandboxes}": self._all_returned(),
            LOST: not any(isinstance(event, LogRecorded) and event.message == LOST for event in self.events),
        }
        broken = (claim for claim, holds in claims.items() if not holds)
        return [
            *map(str, self.findings),
            *broken,
            *self.left,
            *self._acks(),
            *self._lives(),
            *self._stale_deliveries(),
            *self._overspent(),
        ]

    def _all_returned(self) -> bool:
        stats = self.sandboxes
        return (stats.live, stats.waiting, stats.granted) == (0, 0, stats.returned + stats.expired)

    def _acks(self) -> Iterator[str]:
        acked = Counter(event.group_id for event in self.events if isinstance(event, GroupAcked))
        if any(count > 1 for count in acked.values()):
            yield f"a group was acked twice: {acked}"
        # A process that dies may have written acks down that their consumers never hear of.
        if self.trained - acked or (acked - self.trained).total() > self.deaths * self.scenario.consumers:
            yield f"the log acks {dict(acked)}, consumers did {dict(self.trained)}"

    def _lives(self) -> Iterator[str]:
        started = Counter(event.rollout_id for event in self.events if isinstance(event, RolloutStarted))
        ended = Counter(event.rollout_id for event in self.events if isinstance(event, RolloutEnded))
        for rollout_id in started.keys() | ended.keys():
            if (times := (started[rollout_id], ended[rollout_id])) != (1, 1):
                yield f"{rollout_id} started {times[0]} times and ended {times[1]} times"

    def _stale_deliveries(self) -> Iterator[str]:
        newest = 0
        for event in self.events:
            match event:
                case VersionAnnounced():
                    newest = event.version
                case GroupLeased() if self.scenario.staleness and event.lease_id in self.oldest:
                    behind = newest - self.oldest[event.lease_id]
                    if behind > self.scenario.most_stale:
                        yield f"{event.lease_id} was delivered {behind} versions behind"

    def _overspent(self) -> Iterator[str]:
        limits: dict[str, Limits] = {}
        for event in self.events:
            match event:
                case RolloutStarted():
                    limits[event.rollout_id] = event.request.limits
                case RolloutEnded():
                    for name, spent, most in bounds(event.usage, limits[event.rollout_id]):
                        if most is not None and spent > most:
                            yield f"{event.rollout_id} spent {spent} {name} of {most}"


def bounds(usage: Usage, limits: Limits) -> Iterator[tuple[str, int, int | None]]:
    """What was spent, and the most that may be."""
    yield "turns", usage.turns, 2 * limits.max_turns  # its judge has as many again
    yield "tokens", usage.tree_tokens, limits.max_tokens
    yield "steps", usage.tree_steps, limits.max_steps
    yield "critical steps", usage.critical_steps, limits.max_critical_steps
    yield "tool calls", usage.tree_tool_calls, limits.max_tool_calls
