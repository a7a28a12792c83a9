"""StoredGroup: a closed group that an earlier process left. Its tokens stay in the store until its turn comes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import Event, GroupClosed, GroupSubmitted, RolloutEnded, RolloutStarted, TurnRecorded
from envhub.contracts.ids import GroupId, RolloutId, RunId
from envhub.contracts.store import TraceStore
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.group_log import GroupLog
from envhub.toolsets.threads import Threads

OF_OUTCOMES = (RolloutStarted, TurnRecorded, RolloutEnded)
READING = Threads("stored-groups", 1)  # to put them together


@dataclass(frozen=True, slots=True, eq=False)
class StoredGroup:
    """What is known of it without its rollouts, and where they are."""

    store: TraceStore
    submitted: GroupSubmitted
    closing: GroupClosed
    rollouts: Sequence[RolloutId]
    deliveries: int  # so far
    failed: int  # of them

    @property
    def run_id(self) -> RunId:
        return self.closing.run_id

    @property
    def group_id(self) -> GroupId:
        return self.closing.group_id

    async def read(self) -> ClosedGroup:
        """The group as it closed.

        Raises:
            StoreError: the store failed, or what it has of the group is damaged.
        """
        events = await self.store.events_of(self.run_id, self.rollouts, OF_OUTCOMES)
        group = RolloutGroup(self.group_id, self.submitted.number, self.submitted.request)
        return await READING.run(partial(self._closed, group, events))

    def _closed(self, group: RolloutGroup, events: Sequence[Event]) -> ClosedGroup:
        log = GroupLog(group)
        for event in events:
            log.take(event)
        closed = group.closed(self.run_id, self.closing.policy_version)
        for outcome in closed.outcomes:
            for one in outcome.tree():
                _ = one.trajectory.rows  # made here: the loop has other things to do
        return closed
