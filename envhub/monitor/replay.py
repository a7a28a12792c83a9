"""Replay: the events of a run applied again, one by one: where its members are, and what should not have happened."""

from collections.abc import Iterator

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupClosed,
    GroupLeased,
    GroupReturned,
    LogRecorded,
    RolloutEnded,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import LeaseId, RolloutId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.store import RunSummary
from envhub.errors import StoreError
from envhub.monitor.token_checks import Breach
from envhub.store.projection import Projection, RunRecord


class Replay:
    """Of the events of one run."""

    def __init__(self, begun: RunSummary | None = None) -> None:
        """`begun`: the run, where its first event is not replayed."""
        self.state = Projection()
        self._leases: set[LeaseId] = set()
        if begun is not None:
            self.state.runs[begun.run_id] = RunRecord(begun.run_id, begun.started_at, begun.seed)

    def take(self, event: Event) -> Iterator[Breach]:
        """What is wrong with the event, given those before."""
        if isinstance(event, TurnRecorded | StepRecorded | LogRecorded):
            return  # they move no member
        try:
            self.state.apply(event)
        except StoreError as error:
            yield self._invariant(event), str(error)
            return
        match event:
            case RolloutEnded():
                yield from self._ended(event)
            case GroupClosed():
                yield from self._closed(event)
            case GroupLeased():
                yield from self._leased(event)

    def orphans(self) -> list[RolloutId]:
        """Children that run though their parents have ended. Only rollouts that run are still known here."""
        running = self.state.rollouts
        return [id for id, child in running.items() if child.parent is not None and child.parent not in running]

    def _ended(self, event: RolloutEnded) -> Iterator[Breach]:
        rollout = self.state.rollouts.pop(event.rollout_id)
        faulty = event.status in (Status.FAILED, Status.CANCELLED)
        if faulty and event.score is not None:
            yield 5, f"is {event.status} and has a score of {event.score.scalar}"
        if not faulty and event.score is None and rollout.parent is not None:
            yield 4, f"is a child that is {event.status} without a score: neither scored, failed nor cancelled"

    def _closed(self, event: GroupClosed) -> Iterator[Breach]:
        states = self.state.groups[event.group_id].members
        scored = {index for index, state in enumerate(states) if state is MemberState.SCORED}
        listed = set(event.members)
        if listed - scored:
            yield 5, f"was closed with members {sorted(listed - scored)}, which have no valid score"
        if scored - listed:
            yield 4, f"was closed without members {sorted(scored - listed)}, which have a valid score"

    def _leased(self, event: GroupLeased) -> Iterator[Breach]:
        if event.lease_id in self._leases:
            yield 6, f"was leased again under lease '{event.lease_id}'; each delivery has a lease of its own"
        self._leases.add(event.lease_id)
        deliveries = self.state.groups[event.group_id].deliveries
        if event.delivery != deliveries:
            yield 9, f"calls delivery {deliveries} its delivery {event.delivery}"

    def _invariant(self, event: Event) -> int:
        """The invariant that an impossible event breaks."""
        match event:
            case GroupLeased() | GroupReturned():
                return 6
            case GroupAcked():
                group = self.state.groups.get(event.group_id)
                return 9 if group is not None and MemberState.ACKED in group.members else 6
        return 4
