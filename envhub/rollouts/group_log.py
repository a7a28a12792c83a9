"""GroupLog: what the store has of one group's rollouts, put together event by event."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from envhub.contracts.environment import Resume
from envhub.contracts.events import Event, RolloutEnded, RolloutStarted
from envhub.contracts.ids import NO_MEMBER
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.journal import Ended, Journal
from envhub.rollouts.replay import ENDED_EARLY, Records, way_of


@dataclass(slots=True)
class GroupLog:
    """The rollouts of a group, which is filled in as they end. None: it has closed, and waits for none of them."""

    group: RolloutGroup | None
    journal: Journal = field(default_factory=Journal)

    def take(self, event: Event) -> None:
        if isinstance(event, RolloutStarted) and event.parent is None and self.group:
            self.group.attempts[event.member] += 1
        ended = self.journal.take(event)
        if isinstance(event, RolloutEnded) and ended:
            self._end(event, ended)

    def settle(self) -> Iterator[RolloutEnded]:
        """What ran and can go on is left to the group; the rest ends, by these events."""
        for records in list(self.journal.live.values()):
            if records.start.rollout_id not in self.journal.live:
                continue  # it ended with one above it
            if self.group and self._goes_on(self.group, records):
                if records.start.parent is None:
                    self.group.earlier[records.start.member] = records
                continue
            for event in list(records.end()):
                self.take(event)
                yield event

    def _goes_on(self, group: RolloutGroup, records: Records) -> bool:
        start = records.start
        done = group.complete and start.member != NO_MEMBER
        return not done and not records.aborted and way_of(start) is not Resume.RESTART

    def _end(self, event: RolloutEnded, ended: Ended) -> None:
        if self.group is None or ended.start.parent is not None:
            return
        if event.requeued:
            if event.failure is not None and event.failure != ENDED_EARLY:
                self.group.tries_again(ended.start.member, event.failure)
        elif ended.start.judges:
            self.group.end_judging(ended.outcome)
        else:
            self.group.outcomes[ended.start.member] = ended.outcome
