"""The projection in its tables: the part that a batch of events touches is read, and what changed is written back."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, TypeAlias

from sqlalchemy import Insert, Row, Select, Update, bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from envhub.contracts.events import Event, RolloutEnded, RolloutStarted
from envhub.contracts.ids import GroupId
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.store import GroupSummary, RolloutSummary
from envhub.errors import Boundary
from envhub.store.projection import NO_LEASE, Projection, RunRecord
from envhub.store.tables import GroupRow, MemberRow, RolloutRow, RunRow

Columns: TypeAlias = dict[str, Any]  # a row by column name: each of the type that its column has
Rows: TypeAlias = Sequence[Row[*tuple[Any, ...]]]
Query: TypeAlias = Select[*tuple[Any, ...]]

KEYS_A_QUERY = 500  # SQLite takes 32,766 parameters at most, and compiling a statement grows with them
_ROLLOUT = tuple(field.name for field in fields(RolloutSummary))
_GROUP = ("group_id", "run_id", "number", "environment", "task_id")
_PROGRESS = ("turns", "prompt_tokens", "sampled_tokens", "version_min", "version_max")
_END = (*_PROGRESS, "status", "truncated_by", "reward", "failure", "failure_message", "requeued", "ended_at")

ROLLOUTS: Query = select(*(getattr(RolloutRow, name) for name in _ROLLOUT))
GROUPS: Query = select(*GroupRow.__table__.columns)
MEMBERS: Query = select(MemberRow.group_id, MemberRow.state).order_by(MemberRow.group_id, MemberRow.member)
_RUNS: Query = select(*RunRow.__table__.columns)


async def load(connection: AsyncConnection, events: Sequence[Event]) -> Projection:
    """What the projection holds of the runs, groups and rollouts that `events` touch."""
    state = Projection()
    rollouts = {getattr(event, "rollout_id", None) for event in events}
    rollouts |= {event.parent for event in events if isinstance(event, RolloutStarted)}
    for row in await _by_key(connection, ROLLOUTS, RolloutRow.rollout_id, rollouts):
        summary = rollout_summary(row)
        state.rollouts[summary.rollout_id] = summary
    ended = {event.rollout_id for event in events if isinstance(event, RolloutEnded)}
    groups = {getattr(event, "group_id", None) for event in events}
    groups |= {summary.group_id for id, summary in state.rollouts.items() if id in ended}
    members = await _by_key(connection, MEMBERS, MemberRow.group_id, groups)
    rows = await _by_key(connection, GROUPS, GroupRow.group_id, groups)
    state.groups.update((summary.group_id, summary) for summary in group_summaries(rows, members))
    state.leases.update((row.group_id, row.lease) for row in rows)
    for row in await _by_key(connection, _RUNS, RunRow.run_id, {event.run_id for event in events}):
        state.runs[row.run_id] = RunRecord(row.run_id, row.started_at, row.seed, row.submitted)
    return state


async def save(connection: AsyncConnection, before: Projection, changes: Projection) -> None:
    """Writes `changes` of `before`, new things in the order in which they came to be."""
    await _save_runs(connection, before, changes)
    await _save_groups(connection, before, changes)
    await _save_members(connection, before, changes)
    await _save_rollouts(connection, before, changes)


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


async def _by_key(
    connection: AsyncConnection, query: Query, column: InstrumentedAttribute[str], keys: Collection[str | None]
) -> Rows:
    """The rows whose `column` is one of `keys`."""
    wanted = iter(sorted(key for key in keys if key is not None))
    rows: list[Row[Any]] = []
    while chunk := list(islice(wanted, KEYS_A_QUERY)):
        rows += (await connection.execute(query.where(column.in_(chunk)))).all()
    return rows


async def _save_runs(connection: AsyncConnection, before: Projection, changes: Projection) -> None:
    new = [
        {"run_id": run.run_id, "started_at": run.started_at, "seed": run.seed, "submitted": run.submitted}
        for run in changes.runs.values()
        if run.run_id not in before.runs
    ]
    moved = [{"key": id, "submitted": run.submitted} for id, run in changes.runs.items() if id in before.runs]
    await _execute(connection, insert(RunRow), new)
    await _execute(connection, update(RunRow).where(RunRow.run_id == bindparam("key")), moved)


async def _save_groups(connection: AsyncConnection, before: Projection, changes: Projection) -> None:
    new, moved = [], []
    for id, group in changes.groups.items():
        lease = changes.leases.get(id, before.leases.get(id, NO_LEASE))
        columns: Columns = {"closed": group.closed, "deliveries": group.deliveries, "lease": lease}
        if id in before.groups:
            moved.append({"key": id, **columns})
        else:
            new.append(columns | {name: getattr(group, name) for name in _GROUP})
    await _execute(connection, insert(GroupRow), new)
    await _execute(connection, update(GroupRow).where(GroupRow.group_id == bindparam("key")), moved)


async def _save_members(connection: AsyncConnection, before: Projection, changes: Projection) -> None:
    new, moved = [], []
    for id, group in changes.groups.items():
        known = before.groups.get(id)
        for index, state in enumerate(group.members):
            if known is None:
                new.append({"group_id": id, "member": index, "run_id": group.run_id, "state": state})
            elif known.members[index] is not state:
                moved.append({"key": id, "index": index, "state": state})
    this = (MemberRow.group_id == bindparam("key"), MemberRow.member == bindparam("index"))
    await _execute(connection, insert(MemberRow), new)
    await _execute(connection, update(MemberRow).where(*this), moved)


async def _save_rollouts(connection: AsyncConnection, before: Projection, changes: Projection) -> None:
    new, going_on, ended = [], [], []
    for id, rollout in changes.rollouts.items():
        if id not in before.rollouts:
            new.append({name: getattr(rollout, name) for name in _ROLLOUT})
        elif rollout.status is None:  # apart from those that ended: the indexes are left alone
            going_on.append({"key": id, **{name: getattr(rollout, name) for name in _PROGRESS}})
        else:
            ended.append({"key": id, **{name: getattr(rollout, name) for name in _END}})
    this = update(RolloutRow).where(RolloutRow.rollout_id == bindparam("key"))
    await _execute(connection, insert(RolloutRow), new)
    await _execute(connection, this, going_on)
    await _execute(connection, this, ended)


async def _execute(connection: AsyncConnection, statement: Insert | Update, rows: list[Columns]) -> None:
    if rows:
        await connection.execute(statement, rows)
