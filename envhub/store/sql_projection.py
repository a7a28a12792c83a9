"""The projection in its tables: what a batch of events changes is written back, and what it needs is remembered.

Invariant: what is remembered is what the tables hold, of rollouts that run and groups that are open. It holds for a log
that ends where this writer left it; where another one wrote, or a transaction failed, it is forgotten.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, Select, func, select
from sqlalchemy.orm import InstrumentedAttribute

from envhub.contracts.events import (
    Event,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
)
from envhub.contracts.ids import GroupId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.store import GroupSummary, RolloutSummary
from envhub.errors import Boundary
from envhub.store import bulk
from envhub.store.keys import among
from envhub.store.payloads.packing import Record
from envhub.store.postgres.bulk import Values
from envhub.store.projection import NO_LEASE, Projection, RunRecord
from envhub.store.tables import EventRow, GroupRow, MemberRow, RolloutRow, RunRow

Columns: TypeAlias = dict[str, Any]  # a row by column name: each of the type that its column has
Rows: TypeAlias = Sequence[Row[*tuple[Any, ...]]]
Query: TypeAlias = Select[*tuple[Any, ...]]

MOVING = (RolloutPaused, RolloutContinued, RolloutResumed, RolloutEnded)  # events of a rollout that move its member
_EVENT = ("seq", "run_id", "rollout_id", "group_id", "kind", "at", "payload")
_RUN = ("run_id", "started_at", "seed", "submitted")
_GROUP = ("group_id", "run_id", "number", "environment", "task_id")
_DELIVERY = ("closed", "deliveries", "lease")
_MEMBER = ("group_id", "member", "run_id", "state")
_ROLLOUT = tuple(field.name for field in fields(RolloutSummary))
_PROGRESS = ("turns", "prompt_tokens", "sampled_tokens", "version_min", "version_max")
_END = (*_PROGRESS, "status", "truncated_by", "reward", "failure", "failure_message", "requeued", "ended_at")

ROLLOUTS: Query = select(*(getattr(RolloutRow, name) for name in _ROLLOUT))
GROUPS: Query = select(*GroupRow.__table__.columns)
MEMBERS: Query = select(MemberRow.group_id, MemberRow.state).order_by(MemberRow.group_id, MemberRow.member)
_RUNS: Query = select(*RunRow.__table__.columns)


class ProjectedLog:
    """The event log and its projection, as one writer appends to them."""

    def __init__(self) -> None:
        self._known = Projection()
        self._end = -1  # of the log that the projection is of

    def append(self, connection: Connection, events: Sequence[Event], records: Sequence[Record]) -> None:
        """Adds the events, each with what the log keeps of it.

        Raises:
            StoreError: an event is impossible.
        """
        rows = [_event_values(event, record) for event, record in zip(events, records, strict=True)]
        known, end = self._projection(connection)
        _load(connection, events, known)
        changes = known.after(events)
        _save(connection, known, changes)
        placed = [(place, *values) for place, values in enumerate(rows, end + 1)]
        bulk.insert(connection, EventRow.__tablename__, _EVENT, placed)
        known.update(changes)
        _forget_ended(known, changes)
        self._known, self._end = known, end + len(rows)

    def forget(self) -> None:
        """What was appended last is not in the tables."""
        self._known, self._end = Projection(), -1

    def _projection(self, connection: Connection) -> tuple[Projection, int]:
        """What is known of the log, which is nothing where it does not end at its known end; and its end."""
        end = connection.execute(select(func.coalesce(func.max(EventRow.seq), 0))).scalar_one()
        return (self._known if end == self._end else Projection()), end


def rollout_summary(row: Row[Any]) -> RolloutSummary:
    """The record of a row of ROLLOUTS."""
    columns: Columns = dict(zip(_ROLLOUT, row, strict=False))  # a page's rows end with their place
    columns["status"] = None if row.status is None else Status(row.status)
    columns["failure"] = None if row.failure is None else Boundary(row.failure)
    return RolloutSummary(**columns)


def group_summaries(groups: Iterable[Row[Any]], members: Iterable[Row[Any]]) -> list[GroupSummary]:
    """The records of rows of groups; `members` are ordered by their index within each group."""
    states: dict[GroupId, list[MemberState]] = defaultdict(list)
    for member in members:
        states[member.group_id].append(MemberState(member.state))
    return [
        GroupSummary(
            group_id=row.group_id,
            run_id=row.run_id,
            number=row.number,
            environment=row.environment,
            task_id=row.task_id,
            members=tuple(states[row.group_id]),
            closed=row.closed,
            deliveries=row.deliveries,
        )
        for row in groups
    ]


def _event_values(event: Event, record: Record) -> Values:
    kind, payload = record
    return (
        event.run_id,
        getattr(event, "rollout_id", None),
        getattr(event, "group_id", None),
        kind,
        event.at,
        payload,
    )


def _load(connection: Connection, events: Sequence[Event], known: Projection) -> None:
    """Reads what is not known of the runs, groups and rollouts that `events` touch."""
    rollouts = {getattr(event, "rollout_id", None) for event in events}
    rollouts |= {event.parent for event in events if isinstance(event, RolloutStarted)}
    for row in _by_key(connection, ROLLOUTS, RolloutRow.rollout_id, rollouts - known.rollouts.keys()):
        summary = rollout_summary(row)
        known.rollouts[summary.rollout_id] = summary
    moving = {event.rollout_id for event in events if isinstance(event, MOVING)}
    groups = {getattr(event, "group_id", None) for event in events}
    groups |= {known.rollouts[id].group_id for id in moving if id in known.rollouts}
    groups -= known.groups.keys()
    members = _by_key(connection, MEMBERS, MemberRow.group_id, groups)
    rows = _by_key(connection, GROUPS, GroupRow.group_id, groups)
    known.groups.update((summary.group_id, summary) for summary in group_summaries(rows, members))
    known.leases.update((row.group_id, row.lease) for row in rows)
    runs = {event.run_id for event in events} - known.runs.keys()
    for row in _by_key(connection, _RUNS, RunRow.run_id, runs):
        known.runs[row.run_id] = RunRecord(row.run_id, row.started_at, row.seed, row.submitted)


def _forget_ended(known: Projection, changes: Projection) -> None:
    """Drops what no more events are expected of; should one come, it is read again."""
    for rollout in changes.rollouts.values():
        if rollout.status is not None:
            del known.rollouts[rollout.rollout_id]
    for group in changes.groups.values():
        if all(state.final for state in group.members):
            del known.groups[group.group_id]
            del known.leases[group.group_id]


def _by_key(
    connection: Connection, query: Query, column: InstrumentedAttribute[str], keys: Collection[str | None]
) -> Rows:
    """The rows whose `column` is one of `keys`."""
    wanted = [key for key in keys if key is not None]
    if not wanted:
        return ()
    return connection.execute(query.where(among(column, "keys")), {"keys": wanted}).all()


def _save(connection: Connection, before: Projection, changes: Projection) -> None:
    """Writes `changes` of `before`, new things in the order in which they came to be."""
    _save_runs(connection, before, changes)
    _save_groups(connection, before, changes)
    _save_members(connection, before, changes)
    _save_rollouts(connection, before, changes)


def _save_runs(connection: Connection, before: Projection, changes: Projection) -> None:
    new = [_run_values(run) for run in changes.runs.values() if run.run_id not in before.runs]
    moved = [(id, run.submitted) for id, run in changes.runs.items() if id in before.runs]
    bulk.insert(connection, RunRow.__tablename__, _RUN, new)
    bulk.update(connection, RunRow.__tablename__, ("run_id",), ("submitted",), moved)


def _save_groups(connection: Connection, before: Projection, changes: Projection) -> None:
    new, moved = [], []
    for id, group in changes.groups.items():
        lease = changes.leases.get(id, before.leases.get(id, NO_LEASE))
        delivery = (group.closed, group.deliveries, lease)
        if id in before.groups:
            moved.append((id, *delivery))
        else:
            new.append((*_group_values(group), *delivery))
    bulk.insert(connection, GroupRow.__tablename__, (*_GROUP, *_DELIVERY), new)
    bulk.update(connection, GroupRow.__tablename__, ("group_id",), _DELIVERY, moved)


def _save_members(connection: Connection, before: Projection, changes: Projection) -> None:
    new, moved = [], []
    for id, group in changes.groups.items():
        known = before.groups.get(id)
        for index, state in enumerate(group.members):
            if known is None:
                new.append((id, index, group.run_id, state))
            elif known.members[index] is not state:
                moved.append((id, index, state))
    bulk.insert(connection, MemberRow.__tablename__, _MEMBER, new)
    bulk.update(connection, MemberRow.__tablename__, ("group_id", "member"), ("state",), moved)


def _save_rollouts(connection: Connection, before: Projection, changes: Projection) -> None:
    new, going_on, ended = [], [], []
    for id, rollout in changes.rollouts.items():
        if id not in before.rollouts:
            new.append(_rollout_values(rollout))
        elif rollout.status is None:  # apart from those that ended: the indexes are left alone
            going_on.append((id, *_progress(rollout)))
        else:
            ended.append((id, *_ending(rollout)))
    bulk.insert(connection, RolloutRow.__tablename__, _ROLLOUT, new)
    bulk.update(connection, RolloutRow.__tablename__, ("rollout_id",), _PROGRESS, going_on)
    bulk.update(connection, RolloutRow.__tablename__, ("rollout_id",), _END, ended)


_run_values = attrgetter(*_RUN)
_group_values = attrgetter(*_GROUP)
_rollout_values = attrgetter(*_ROLLOUT)
_progress = attrgetter(*_PROGRESS)
_ending = attrgetter(*_END)
