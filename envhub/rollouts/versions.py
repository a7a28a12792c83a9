"""Versions: the announced policy versions, the only clock of staleness, and how much may be sampled ahead of them.

Invariants, where there is a bound: no token that trains is delivered more than `most` versions behind the newest one;
no more rollouts are started than a trainer can take before they are that old.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import anyio

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.ids import PolicyId, PolicyVersion
from envhub.contracts.outcome import Outcome
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import Span
from envhub.errors import UsageError
from envhub.rollouts.iteration import Iteration

FIRST = PolicyVersion(0)


@dataclass(frozen=True, slots=True)
class Staleness:
    """How old what trains may be.

    Raises:
        UsageError: a number out of its range.
    """

    most: int  # versions behind the newest announced one
    step_rollouts: int  # that one training step consumes
    masks: bool = False  # tokens that are too old stop training; else their whole group is dropped

    def __post_init__(self) -> None:
        if self.most < 0 or self.step_rollouts < 1:
            raise UsageError(
                f"staleness is bounded by {self.most} versions and {self.step_rollouts} rollouts a step; "
                "the first must be at least 0, the second at least 1"
            )


class Versions:
    """What was announced of every policy. `accepted`: rollouts that an earlier process closed groups with."""

    def __init__(
        self,
        announced: Mapping[PolicyId, PolicyVersion] | None = None,
        bound: Staleness | None = None,
        accepted: Mapping[PolicyId, int] | None = None,
        iteration: Iteration | None = None,
    ) -> None:
        self._announced = dict(announced or {})
        self._bound = bound
        self._started = Counter(accepted)  # rollouts that run or made it into a group, by policy
        self._iteration = iteration
        self._changed = anyio.Event()

    @property
    def announced(self) -> Mapping[PolicyId, PolicyVersion]:
        return dict(self._announced)

    def newest(self, policy_id: PolicyId) -> PolicyVersion:
        return self._announced.get(policy_id, FIRST)

    def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """
        Raises:
            UsageError: it is older than the newest.
        """
        self.check_newer(policy_id, version)
        self._announced[policy_id] = version
        if self._iteration:
            self._iteration.renew()
        self._notify()

    def check_newer(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """
        Raises:
            UsageError: it is older than the newest.
        """
        if version < self.newest(policy_id):
            raise UsageError(
                f"version {version} of policy '{policy_id}' is below the newest announced one, {self.newest(policy_id)}"
            )

    @property
    def drops_stale(self) -> bool:
        """Whether groups may be too old to be delivered at all."""
        return self._bound is not None and not self._bound.masks

    def needed(self, version: PolicyVersion) -> PolicyVersion | None:
        """Were that version the newest: the oldest with which a group could still be delivered; None: any could."""
        if self._bound is None or not self.drops_stale:
            return None
        return PolicyVersion(version - self._bound.most)

    def check(self, request: GroupRequest) -> None:
        """
        Raises:
            UsageError: a group that could never start within the bound.
        """
        if self._bound and request.size > (most := (self._bound.most + 1) * self._bound.step_rollouts):
            raise UsageError(
                f"a group of {request.size} rollouts could never start: the staleness bound admits {most} before the "
                "first new version; make groups smaller, or raise the bound or the rollouts of a step"
            )

    async def admit(self, request: GroupRequest) -> None:
        """Waits until the trainer can consume this group before it is too old (AReaL, arXiv:2505.24298 eq. 3)."""
        while self._room(request.rollout.policy_id) < request.size:
            await self._changed.wait()
        self.take(request)

    def take(self, request: GroupRequest) -> None:
        """Counts a group that starts, or goes on after a restart, whether there is room or not."""
        self._started[request.rollout.policy_id] += request.size

    def close(self, request: GroupRequest, delivered: int) -> None:
        """Of a group that has ended, so many rollouts are for the trainer."""
        self._started[request.rollout.policy_id] -= request.size - delivered
        if self._iteration:
            self._iteration.accepted(delivered)
        self._notify()

    def drop(self, group: ClosedGroup) -> None:
        """A closed group won't be trained on."""
        self._started[group.request.rollout.policy_id] -= len(group.members)
        if self._iteration:
            self._iteration.accepted(-len(group.members))
        self._notify()

    def fresh(self, group: ClosedGroup) -> ClosedGroup | None:
        """The group as it may be trained on now; None where it is too old."""
        oldest = self._oldest_allowed(group.request.rollout.policy_id)
        spans = [span for outcome in group.outcomes for span in trained(outcome)]
        if all(span.policy_version >= oldest for span in spans):
            return group
        if not (self._bound and self._bound.masks) or all(span.policy_version < oldest for span in spans):
            return None
        return replace(group, outcomes=tuple(_masked(outcome, oldest) for outcome in group.outcomes))

    def _oldest_allowed(self, policy_id: PolicyId) -> int:
        return self.newest(policy_id) - self._bound.most if self._bound else FIRST

    def _room(self, policy_id: PolicyId) -> float:
        if self._bound is None:
            return float("inf")
        steps = self._bound.most + self.newest(policy_id) + 1
        return steps * self._bound.step_rollouts - self._started[policy_id]

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def trained(outcome: Outcome) -> Iterator[Span]:
    """The spans that train, of a rollout and all below it."""
    for one in outcome.tree():
        for row in one.trajectory.rows:
            yield from (span for span in row.spans if span.trainable)


def _masked(outcome: Outcome, oldest: int) -> Outcome:
    """With nothing that trains from before that version."""

    def masked(row: Row) -> Row:
        return replace(row, spans=tuple(mask(span) for span in row.spans))

    def mask(span: Span) -> Span:
        return replace(span, trainable=span.trainable and span.policy_version >= oldest)

    return replace(
        outcome,
        trajectory=Trajectory(tuple(map(masked, outcome.trajectory.rows))),
        children=tuple(_masked(child, oldest) for child in outcome.children),
    )
