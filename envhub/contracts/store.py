"""TraceStore: the durable event log and its projections."""

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from envhub.contracts.events import Event
from envhub.contracts.ids import NO_MEMBER, EnvironmentId, GroupId, PolicyId, PolicyVersion, RolloutId, RunId, TaskId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.quick import quickly_made
from envhub.errors import Boundary


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run, with its members by state."""

    run_id: RunId
    started_at: float
    seed: int
    members: MemberCounts


@quickly_made
@dataclass(frozen=True, slots=True)
class RolloutSummary:
    """One rollout as a list shows it. `status` None: it runs."""

    rollout_id: RolloutId
    run_id: RunId
    group_id: GroupId
    member: int
    attempt: int
    parent: RolloutId | None
    root: RolloutId
    environment: EnvironmentId
    task_id: TaskId
    policy_id: PolicyId  # that its agent was asked to act with
    status: Status | None
    truncated_by: str
    reward: float | None
    failure: Boundary | None
    failure_message: str
    requeued: bool
    turns: int
    prompt_tokens: int
    sampled_tokens: int
    version_min: PolicyVersion  # NO_VERSION where nothing was sampled
    version_max: PolicyVersion
    started_at: float
    ended_at: float | None

    @property
    def is_try(self) -> bool:
        """Whether it is a member's: no child, and no judging of a group."""
        return self.parent is None and self.member != NO_MEMBER


@dataclass(frozen=True, slots=True)
class RolloutQuery:
    """Which rollouts, newest first. Unset fields don't filter."""

    run_id: RunId | None = None
    environment: EnvironmentId | None = None
    status: Status | None = None
    reward_min: float | None = None
    reward_max: float | None = None
    group_id: GroupId | None = None
    root: RolloutId | None = None  # this rollout and all below it, parents first
    roots_only: bool = False
    limit: int = 50
    cursor: str = ""  # of the page before; pages are stable while rollouts are added


@dataclass(frozen=True, slots=True)
class RolloutPage:
    rollouts: tuple[RolloutSummary, ...]
    next_cursor: str  # "": the last page
    total: int  # that match, over all pages


@quickly_made
@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group with the states of its members, in order."""

    group_id: GroupId
    run_id: RunId
    number: int
    environment: EnvironmentId
    task_id: TaskId
    members: tuple[MemberState, ...]
    closed: bool
    deliveries: int  # leases so far


class RolloutFacts(NamedTuple):
    """What a rollout is filtered, sorted and counted by: a plain tuple, since there may be millions. Nothing of it
    changes once it has ended."""

    place: int  # in the store, from 1 on, in the order in which rollouts started
    run_id: RunId
    group_id: GroupId
    member: int
    is_root: bool
    environment: EnvironmentId
    task_id: TaskId
    policy_id: PolicyId
    status: str | None
    truncated_by: str
    reward: float | None
    failure: str | None
    requeued: bool
    turns: int
    prompt_tokens: int
    sampled_tokens: int
    version_min: PolicyVersion
    version_max: PolicyVersion
    started_at: float
    ended_at: float | None


class StoredEvent(NamedTuple):
    """An event as a store keeps it."""

    place: int  # in the log, from 1 on
    kind: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class TextMatches:
    """The rollouts in whose messages a text was found."""

    places: Sequence[int]  # of the newest, in no order
    indexed: int  # events that were searched,
    of: int  # and that there are


class TraceStore(Protocol):
    """Events go in, whole batches at a time; projections come out."""

    async def append(self, events: Sequence[Event]) -> None:
        """Durable, in order and all or nothing, once it returns."""

    def events(
        self,
        run_id: RunId,
        rollout_id: RolloutId | None = None,
        *,
        kinds: Collection[type[Event]] = (),
        files: bool = False,
    ) -> AsyncIterator[Event]:
        """The events of a run, or of one of its rollouts, or only those of some kinds, in the order they were appended,
        and with `files` those of their pictures."""

    async def events_of(
        self,
        run_id: RunId,
        rollout_ids: Collection[RolloutId],
        kinds: Collection[type[Event]] = (),
        *,
        files: bool = False,
    ) -> Sequence[Event]:
        """Likewise those of some rollouts, which are few."""

    async def file(self, sha256: str) -> bytes | None:
        """A file that an event names, of a picture or about tokens; None: there is none."""

    async def runs(self) -> tuple[RunSummary, ...]:
        """All runs, newest first."""

    async def rollouts(self, query: RolloutQuery) -> RolloutPage:
        """
        Raises:
            UsageError: a cursor that no page gave, or a limit outside 1..1000.
        """

    async def rollout(self, rollout_id: RolloutId) -> RolloutSummary | None: ...

    async def groups(self, run_id: RunId) -> tuple[GroupSummary, ...]:
        """All groups of a run, in order of submission."""

    async def close(self) -> None:
        """Idempotent."""


class BrowsableStore(TraceStore, Protocol):
    """A store that people look into: lists of millions, and search."""

    async def facts(self, after: int, limit: int) -> Sequence[RolloutFacts]:
        """Those of the rollouts past that place, in order; `limit` at most."""

    async def ended_facts(self, places: Collection[int]) -> Sequence[RolloutFacts]:
        """Those of the rollouts at these places that have ended."""

    async def rollouts_at(self, places: Sequence[int]) -> tuple[RolloutSummary, ...]:
        """The rollouts at these places, in this order."""

    async def find_text(self, text: str) -> TextMatches:
        """The rollouts whose messages hold all words of a text, or a "phrase" in quotes. What was never searched may
        take several calls to be read, each of which reads a part.

        Raises:
            UsageError: there is no word in it.
        """

    async def group(self, group_id: GroupId) -> GroupSummary | None: ...

    async def group_events(self, group_id: GroupId) -> Sequence[Event]:
        """The events of a group itself, not of its rollouts, in order."""

    async def run_events(self, run_id: RunId) -> Sequence[Event]:
        """The events of a run itself, not of its groups and rollouts, in order."""

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        """The run's events past that place in the log as they are kept, in order; `limit` at most."""
