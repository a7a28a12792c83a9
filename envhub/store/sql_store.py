"""SqlTraceStore: the trace store in an SQLite file (see sqlite.py) or a PostgreSQL database (see postgres/)."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from functools import partial

from anyio import to_thread
from sqlalchemy import ColumnElement, Connection, Select, TextClause, func, literal, select, text

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
from envhub.store import sql_facts
from envhub.store.codec import names_of
from envhub.store.database import Database
from envhub.store.files import fill, without_files
from envhub.store.opening import opening
from envhub.store.paging import next_cursor, position
from envhub.store.payloads import register
from envhub.store.payloads.elsewhere import Elsewhere, Opener, read
from envhub.store.payloads.packing import Batch
from envhub.store.payloads.payloads import Payloads
from envhub.store.payloads.place import open_payloads
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
from envhub.store.tables import OF_GROUPS, OF_RUNS, EventRow, FileRow, GroupRow, MemberRow, RolloutRow, RunRow

EVENTS_A_READ = 512  # at most, so that who reads a long log lets others at their work in between
BYTES_A_READ = 4 << 20  # then it is enough: one event may be a turn of 200,000 tokens

_ADD_FILE = text("INSERT INTO images (sha256, data) VALUES (:sha256, :data) ON CONFLICT DO NOTHING")


async def open_store(url_or_path: str, *, read_only: bool = False, payloads: str = "") -> "SqlTraceStore":
    """The store in that file or database, made where there is none and brought to the newest revision unless
    `read_only`. Its large payloads are where the database says; in a new one, or one that has none yet, in the folder
    or at the URL `payloads`, or in the database itself.

    Raises:
        UsageError: it names no file of SQLite and no database in PostgreSQL, none to read, or a file in no directory;
            or its payloads are elsewhere.
        StoreError: what it names is no trace store, can't be reached, or is of a revision that this envhub can't read;
            or the place of its payloads can't be used.
    """
    async with opening(url_or_path, read_only=read_only) as database:
        return SqlTraceStore(database, await open_payloads(database, payloads, read_only=read_only))


class SqlTraceStore:
    """Open it with `open_store`."""

    def __init__(self, database: Database, payloads: Payloads | None = None) -> None:
        self._database = database
        self._payloads = payloads
        self._log = ProjectedLog()
        self._opener = Opener(payloads, database.name)
        self._search = sql_facts.TextSearch(database.search_index, self._opener.whole)

    def hold(self, run_id: RunId) -> AbstractAsyncContextManager[None]:
        """The run belongs to this process within, and to nobody else until the process is gone.

        Raises:
            UsageError: another process holds it.
        """
        return self._database.hold(run_id)

    async def append(self, events: Sequence[Event]) -> None:
        if not events:
            return
        if self._payloads is None:
            await self._database.write(partial(self._append, events=events), self._log.forget)
            return
        batch = await to_thread.run_sync(partial(Batch.of, events, apart=True))
        await self._put(batch.large, self._payloads)  # first: no event is ever durable without
        await self._database.write(partial(self._append_batch, batch=batch), self._log.forget)

    async def events(
        self,
        run_id: RunId,
        rollout_id: RolloutId | None = None,
        *,
        kinds: Collection[type[Event]] = (),
        files: bool = False,
    ) -> AsyncIterator[Event]:
        query = select(EventRow.seq, EventRow.kind, EventRow.payload).where(EventRow.run_id == run_id)
        if rollout_id is not None:
            query = query.where(EventRow.rollout_id == rollout_id)
        if kinds:
            query = query.where(EventRow.kind.in_(names_of(kinds)))
        query = query.order_by(EventRow.seq).limit(EVENTS_A_READ)
        last: int | None = 0
        while last is not None:
            # A snapshot a read, not one for all: a slow reader must not keep the write-ahead log from being cut.
            some, last = await self._database.read(partial(_first_events, query=query.where(EventRow.seq > last)))
            events = await self._opener.all(some)
            found = await self._files(without_files(events)) if files else {}
            for event in events:
                yield fill(event, found) if found else event

    async def file(self, sha256: str) -> bytes | None:
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
        self,
        run_id: RunId,
        rollout_ids: Collection[RolloutId],
        kinds: Collection[type[Event]] = (),
        *,
        files: bool = False,
    ) -> Sequence[Event]:
        find = partial(sql_facts.events_of, run_id=run_id, ids=rollout_ids, kinds=names_of(kinds))
        events = await self._opener.all(await self._database.read(find))
        found = await self._files(without_files(events)) if files else {}
        return [fill(event, found) for event in events] if found else events

    async def log(self, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
        events = await self._database.read(partial(sql_facts.log, run_id=run_id, after=after, limit=limit))
        return await self._opener.whole_log(events)

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
        self._append_batch(connection, Batch.of(events, apart=False))

    def _append_batch(self, connection: Connection, batch: Batch) -> None:
        self._log.append(connection, batch.events, batch.records)
        if batch.files:
            rows = [{"sha256": sha256, "data": data} for sha256, data in batch.files.items()]
            connection.execute(_ADD_FILE, rows)
        if batch.uses:
            register.use(connection, batch.uses)
        if batch.large and self._payloads is not None:
            register.settle(connection, batch.large, self._payloads.folder)

    async def _put(self, large: Mapping[str, bytes], payloads: Payloads) -> None:
        """Those that are not there yet."""
        if large:
            sizes = {sha256: len(data) for sha256, data in large.items()}
            missing = await self._database.write(partial(register.claim, sizes=sizes))
            await payloads.put({sha256: large[sha256] for sha256 in missing})

    async def _files(self, hashes: Set[str]) -> dict[str, bytes]:
        """Those of them that are here."""
        if not hashes:
            return {}
        (rows,) = await self._all(select(FileRow.sha256, FileRow.data).where(FileRow.sha256.in_(hashes)))
        found = {row.sha256: row.data for row in rows}
        if self._payloads is not None and (others := hashes - found.keys()):
            found |= await self._payloads.get(await self._database.read(partial(register.there, names=others)))
        return found

    async def _decoded(self, *conditions: ColumnElement[bool] | TextClause) -> list[Event]:
        """All events that satisfy them, which are few."""
        query = select(EventRow.kind, EventRow.payload).where(*conditions).order_by(EventRow.seq)
        (rows,) = await self._all(query)
        return await self._opener.all([read(row.kind, row.payload) for row in rows])

    async def _all(self, *queries: Query) -> list[Rows]:
        """What each query finds, all in one snapshot."""

        def all_rows(connection: Connection) -> list[Rows]:
            return [connection.execute(query).all() for query in queries]

        return await self._database.read(all_rows)


def _first_events(connection: Connection, query: Query) -> tuple[list[Event | Elsewhere], int | None]:
    """The first that a query finds, and the number of the last one; None: there are no more. Decoded here, in the
    thread that reads: a loop has other things to do."""
    events: list[Event | Elsewhere] = []
    size = 0
    with connection.execute(query) as rows:
        for row in rows:
            event = read(row.kind, row.payload)
            events.append(event)
            size += event.reference.size_bytes if isinstance(event, Elsewhere) else len(row.payload)
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
