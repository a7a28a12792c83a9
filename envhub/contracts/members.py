"""Where every submitted member is, and the conservation that is counted over a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class MemberState(StrEnum):
    """A member is in exactly one. The last four are final."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SCORED = "scored"
    LEASED = "leased"
    ACKED = "acked"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DROPPED = "dropped"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset({MemberState.ACKED, MemberState.FAILED, MemberState.CANCELLED, MemberState.DROPPED})


@dataclass(frozen=True, slots=True)
class MemberCounts:
    """Members of a run by state. Conservation: the counts sum to submitted; drained: the final ones do."""

    submitted: int
    by_state: Mapping[MemberState, int] = field(default_factory=dict)

    def of(self, state: MemberState) -> int:
        return self.by_state.get(state, 0)

    @property
    def conserved(self) -> bool:
        return sum(self.by_state.values()) == self.submitted

    @property
    def drained(self) -> bool:
        return sum(self.of(state) for state in FINAL) == self.submitted

    def equation(self) -> str:
        """`submitted = acked + failed + cancelled + dropped`, with numbers; states that are not final where any are."""
        terms = [f"{self.of(state)} {state}" for state in MemberState if state.final or self.of(state)]
        return f"{self.submitted} submitted = {' + '.join(terms)}"
