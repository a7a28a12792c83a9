"""SqlTraceStore: the trace store in an SQLite file (see sqlite.py) or a PostgreSQL database (see postgres/)."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path

from sqlalchemy import ColumnElement, Connection, Select, TextClause, func, literal, select, text
from sqlalchemy.engine import URL

from envhub.contracts.events import Event
from envhub.contracts.ids import GroupId, RolloutId, RunId
from envhub.contracts.members import MemberCounts, MemberState
from envhub.contracts.store import (
    GroupSummary,
    RolloutFacts,
    RolloutPage,
    RolloutQuery,
    RolloutSummary,
    RunSummary,
    StoredEvent,
    TextMatches,
)
from envhub.errors import UsageError
from envhub.store import migrations, sql_facts
from envhub.store.address import address_of
from envhub.store.codec import KINDS, decode
from envhub.store.database import Database
from envhub.store.images import files_of, fill, without_files
from envhub.store.paging import next_cursor, position
from envhub.store.sql_projection import (
    GROUPS,
    MEMBERS,
    ROLLOUTS,
    ProjectedLog,
    Query,
    Rows,
    group_summaries,
    rollout_summary,
)
from envhub.store.sqlite import open_sqlite
from envhub.store.tables import OF_GROUPS, OF_RUNS, EventRow, GroupRow, ImageRow, MemberRow, RolloutRow, RunRow

EVENTS_A_READ = 512  # at most, so that who reads a long log lets others at their work in between
BYTES_A_READ = 4 << 20  # then it is enough: one event may be a turn of 200,000 tokens

_ADD_IMAGE = text("INSERT INTO images (sha256, data) VALUES (:sha256, :data) ON CONFLICT DO NOTHING")


async def open_store(url_or_path: str, *, read_only: bool = False) -> "SqlTraceStore":
    """The store in that file or database, made where there is none and brought to the newest revision unless
    `read_only`.

    Raises:
        UsageError: it names no file of SQLite and no database in PostgreSQL, none to read, or a file in no directory.
        StoreError: what it names is no trace store, can't be reached, or is of a revision that this envhub can't read.
    """
    address = address_of(url_or_path)
    if isinstance(address, Path):
        database: Database = await open_sqlite(address, read_only=read_only)
    else:
        database = await _open_postgres(address, read_only=read_only)
    async with AsyncExitStack() as on_failure:
        on_failure.push_async_callback(database.close)
        if read_only:
            await database.read(partial(migrations.check, name=database.name))
        else:
            await database.write(partial(migrations.upgrade, name=database.name))
        on_failure.pop_all()
    return SqlTraceStore(database)


async def _open_postgres(url: URL, *, read_only: bool) -> Database:
    try:
        from envhub.store.postgres.database import open_postgres
    except ImportError as error:
        raise UsageError(f"PostgreSQL needs '{error.name}'; `pip install envhub-rl[postgres]`") from error
    return await open_postgres(url, read_only=read_only)


class SqlTraceStore:
    """Open it with `open_store`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = ProjectedLog()
        self._search = sql_facts.TextSearch(database.search_index)

    def hold(self, run_id: RunId) -> AbstractAsyncContextManager[None]:
        """The run belongs to this process within, and to nobody else until the process is gone.

        Raises:
            UsageError: another process holds it.
        """
        return self._database.hold(run_id)

    async def append(self, events: Sequence[Event]) -> None:
        if events:
            await self._database.write(partial(self._append, events=events), self._log.forget)

    async def events(
        self, run_id: RunId, rollout_id: RolloutId | None = None, *, files: bool = False
    ) -> AsyncIterator[Event]:
        query = select(EventRow.seq, EventRow.kind, EventRow.payload).where(EventRow.run_id == run_id)
        if rollout_id is not None:
            query = query.where(EventRow.rollout_id == rollout_id)
        query = query.order_by(EventRow.seq).limit(EVENTS_A_READ)
        last: int | None = 0
        while last is not None:
            # A snapshot a read, not one for all: a slow reader must not keep the write-ahead log from being cut.
            events, last = await self._database.read(partial(_first_events, query=query.where(EventRow.seq > last)))
            found = await self._files(without_files(events)) if files else {}
            for event in events:
                yield fill(event, found) if found else event

    async def image(self, sha256: str) -> bytes | None:
        return (await self._files({sha256})).get(sha256)

    async def runs(self) -> tuple[RunSummary, ...]:
        newest_first = select(*RunRow.__table__.columns).order_by(RunRow.seq.desc())
        counted = select(MemberRow.run_id, MemberRow.state, func.count().label("members"))
        rows, counts = await self._all(newest_first, counted.group_by(MemberRow.run_id, MemberRow.state))
        by_state: dict[str, dict[MemberState, int]] = defaultdict(dict)
        for count in counts:
            by_state[count.run_id][MemberState(count.state)] = count.members
        return tuple(
            RunSummary(row.run_id, row.started_at, row.seed, MemberCounts(row.submitted, by_state[row.run_id]))
            for row in rows
        )

    async def rollouts(self, query: RolloutQuery) -> RolloutPage:
        last, matching = position(query), _matching(query)
        order, newest_first = RolloutRow.seq, query.root is None
        page = ROLLOUTS.add_columns(order).where(*matching).limit(query.limit + 1)
        page = page.order_by(order.desc() if newest_first else order)
        if last is not None:
            page = page.where(order < last if newest_first else order > last)
        count = select(func.count()).select_from(RolloutRow).where(*matching)
        rows, ((total,),) = await self._all(page, count)
        shown = rows[: query.limit]
        cursor = next_cursor(query, shown[-1].seq) if len(rows) > query.limit else ""
        return RolloutPage(tuple(map(rollout_summary, shown)), cursor, total)

    async def rollout(self, rollout_id: RolloutId) -> RolloutSummary | None:
        (rows,) = await self._all(ROLLOUTS.where(RolloutRow.rollout_id == rollout_id))
        return rollout_summary(rows[0]) if rows else None

    async def groups(self, run_id: RunId) -> tuple[GroupSummary, ...]:
        groups = GROUPS.where(GroupRow.run_id == run_id).order_by(GroupRow.number)
        members = MEMBERS.where(MemberRow.run_id == run_id)
        return tuple(group_summaries(*await self._all(groups, members)))

    async def group(self, group_id: GroupId) -> GroupSummary | None:
        groups = GROUPS.where(GroupRow.group_id == group_id)
        members = MEMBERS.where(MemberRow.group_id == group_id)
        return next(iter(group_summaries(*await self._all(groups, members))), None)

    async def group_events(self, group_id: GroupId) -> Sequence[Event]:
        return await self._decoded(text(OF_GROUPS), EventRow.group_id == group_id)

    async def run_events(self, run_id: RunId) -> Sequence[Event]:
        return await self._decoded(text(OF_RUNS), EventRow.run_id == run_id)

    async def events_of(
        self, run_id: RunId, rollout_ids: Collection[RolloutId], kinds: Collection[type[Event]] = ()
    ) -> Sequence[Event]:
        names = [name for name, kind in KINDS.items() if kind in kinds]
        rows = await self._database.read(partial(sql_facts.events_of, run_id=run_id, ids=rollout_ids, kinds=names))
        return [decode(row.kind, row.payload) for row in rows]

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        return await self._database.read(partial(sql_facts.log, run_id=run_id, after=after, limit=limit))

    async def facts(self, after: int, limit: int) -> Sequence[RolloutFacts]:
        return await self._database.read(partial(sql_facts.facts, after=after, limit=limit))

    async def ended_facts(self, places: Collection[int]) -> Sequence[RolloutFacts]:
        return await self._database.read(partial(sql_facts.ended_facts, places=places))

    async def rollouts_at(self, places: Sequence[int]) -> tuple[RolloutSummary, ...]:
        return await self._database.read(partial(sql_facts.rollouts_at, places=places))

    async def find_text(self, text: str) -> TextMatches:
        return await self._database.read(partial(self._search.find, text=text))

    async def close(self) -> None:
        await self._database.close()
        self._search.close()

    def _append(self, connection: Connection, events: Sequence[Event]) -> None:
        self._log.append(connection, events)
        if files := files_of(events):
            rows = [{"sha256": sha256, "data": data} for sha256, data in files.items()]
            connection.execute(_ADD_IMAGE, rows)

    async def _files(self, hashes: Collection[str]) -> dict[str, bytes]:
        """Those of them that are here."""
        if not hashes:
            return {}
        (rows,) = await self._all(select(ImageRow.sha256, ImageRow.data).where(ImageRow.sha256.in_(hashes)))
        return {row.sha256: row.data for row in rows}

    async def _decoded(self, *conditions: ColumnElement[bool] | TextClause) -> list[Event]:
        """All events that satisfy them, which are few."""
        query = select(EventRow.kind, EventRow.payload).where(*conditions).order_by(EventRow.seq)
        (rows,) = await self._all(query)
        return [decode(row.kind, row.payload) for row in rows]

    async def _all(self, *queries: Query) -> list[Rows]:
        """What each query finds, all in one snapshot."""

        def all_rows(connection: Connection) -> list[Rows]:
            return [connection.execute(query).all() for query in queries]

        return await self._database.read(all_rows)


def _first_events(connection: Connection, query: Query) -> tuple[list[Event], int | None]:
    """The first that a query finds, and the number of the last one; None: there are no more. Decoded here, in the
    thread that reads: a loop has other things to do."""
    events: list[Event] = []
    size = 0
    with connection.execute(query) as rows:
        for row in rows:
            events.append(decode(row.kind, row.payload))
            size += len(row.payload)
            if size >= BYTES_A_READ:
                return events, row.seq
    return events, row.seq if len(events) == EVENTS_A_READ else None


def _matching(query: RolloutQuery) -> list[ColumnElement[bool]]:
    """What rows of the query's pages satisfy."""
    equal = {
        RolloutRow.run_id: query.run_id,
        RolloutRow.environment: query.environment,
        RolloutRow.status: query.status,
        RolloutRow.group_id: query.group_id,
    }
    conditions = [column == value for column, value in equal.items() if value is not None]
    if query.reward_min is not None:
        conditions.append(RolloutRow.reward >= query.reward_min)
    if query.reward_max is not None:
        conditions.append(RolloutRow.reward <= query.reward_max)
    if query.roots_only:
        conditions.append(RolloutRow.parent.is_(None))
    if query.root is not None:
        conditions.append(RolloutRow.rollout_id.in_(_tree(query.root)))
    return conditions


def _tree(root: RolloutId) -> Select[tuple[str]]:
    """The ids of a rollout and all below it."""
    tree = select(literal(root).label("id")).cte("tree", recursive=True)
    return select(tree.union_all(select(RolloutRow.rollout_id).where(RolloutRow.parent == tree.c.id)).c.id)
