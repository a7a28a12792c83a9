"""Retention: which runs are old, and their removal, some rows at a time, while others write.

A run that a process holds, that somebody may still want to go on with, or with which the log ends is left: the numbers
of events and rollouts go on from the newest. A removal that is cut off leaves a run that nobody sees any more, and the
next one takes what is left of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from sqlalchemy import Connection, CursorResult, delete, func, select, text

from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.store.database import Database
from envhub.store.payloads.register import clock
from envhub.store.tables import EventRow, MemberRow, RolloutRow, RunRow

ROWS = 5_000  # removed in one transaction, for which writers wait

# Tables and what tells some rows of a run apart from others, in the order of removal.
_PARTS = (
    ("rollouts", "seq"),
    ("members", "group_id"),
    ("groups", "seq"),
    ("events", "seq"),
    ("payload_uses", "sha256"),
)
# Run ids that there are rows of: a step of the index a run, however many rows each has.
_NAMED = """
WITH RECURSIVE named(id) AS (
  SELECT min(run_id) FROM {table}
  UNION ALL SELECT (SELECT min(run_id) FROM {table} WHERE run_id > named.id) FROM named WHERE named.id IS NOT NULL
) SELECT id FROM named WHERE id IS NOT NULL AND id NOT IN (SELECT run_id FROM runs)
"""


@dataclass(frozen=True, slots=True)
class OldRun:
    """A run, as one decides whether it may go."""

    run_id: RunId
    started_at: float
    last_at: float  # its newest event
    age_s: float  # of that, by the database's clock
    members: MemberCounts
    events: int
    size_bytes: int  # of them, in the database
    newest: bool  # the log, or the list of rollouts, ends with it

    def kept_because(self, *, unfinished: bool) -> str:
        """Why it can't go; "": it can."""
        if self.newest:
            return "the log ends with it"
        if not self.members.drained and not unfinished:
            return "it has not ended (--unfinished: all the same)"
        return ""


async def runs_by_age(database: Database) -> Sequence[OldRun]:
    """All, the oldest first."""
    return await database.read(_runs)


async def prune(database: Database, run_id: RunId) -> None:
    """Removes a run and everything of it; payloads that no other one uses are then garbage.

    Raises:
        UsageError: a process holds it.
    """
    async with database.hold(run_id):
        await database.write(partial(_hide, run_id=run_id))
        for table, key in _PARTS:
            while await database.write(partial(_drop_rows, run_id=run_id, table=table, key=key)):
                pass


async def prune_leftovers(database: Database) -> int:
    """Of removals that were cut off; of so many runs."""
    hidden = await database.read(_hidden)
    for run_id in hidden:
        await prune(database, run_id)
    return len(hidden)


def _runs(connection: Connection) -> Sequence[OldRun]:
    now, newest = clock(connection), _newest(connection)
    members = _members(connection)
    size = func.sum(func.length(EventRow.payload))
    query = (
        select(RunRow.run_id, RunRow.started_at, RunRow.submitted, func.count(), size, func.max(EventRow.at))
        .join(EventRow, EventRow.run_id == RunRow.run_id)
        .group_by(RunRow.seq, RunRow.run_id, RunRow.started_at, RunRow.submitted)
        .order_by(RunRow.seq)
    )
    return [
        OldRun(
            run_id,
            started_at,
            last_at,
            now - last_at,
            MemberCounts(submitted, members.get(run_id, {})),
            events,
            int(size_bytes),
            run_id in newest,
        )
        for run_id, started_at, submitted, events, size_bytes, last_at in connection.execute(query)
    ]


def _newest(connection: Connection) -> set[str]:
    """The runs of the last event and the last rollout."""
    ends = [select(row.run_id).order_by(row.seq.desc()).limit(1) for row in (EventRow, RolloutRow)]
    return {run_id for end in ends for run_id in connection.execute(end).scalars()}


def _members(connection: Connection) -> Mapping[str, Mapping[MemberState, int]]:
    counts: dict[str, dict[MemberState, int]] = defaultdict(dict)
    query = select(MemberRow.run_id, MemberRow.state, func.count()).group_by(MemberRow.run_id, MemberRow.state)
    for run_id, state, count in connection.execute(query):
        counts[run_id][MemberState(state)] = count
    return counts


def _hide(connection: Connection, run_id: RunId) -> None:
    connection.execute(delete(RunRow).where(RunRow.run_id == run_id))


def _hidden(connection: Connection) -> list[RunId]:
    named = (connection.execute(text(_NAMED.format(table=table))).scalars() for table in ("events", "payload_uses"))
    return sorted({RunId(run_id) for found in named for run_id in found})


def _drop_rows(connection: Connection, run_id: RunId, table: str, key: str) -> int:
    some = f"SELECT {key} FROM {table} WHERE run_id = :run_id LIMIT {ROWS}"
    statement = text(f"DELETE FROM {table} WHERE run_id = :run_id AND {key} IN ({some})")
    return cast("CursorResult[tuple[()]]", connection.execute(statement, {"run_id": run_id})).rowcount
