"""What lists and figures of millions of rollouts are made from: plain tuples, and the places where a text was said."""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from envhub.contracts.events import Event
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import RolloutFacts, RolloutSummary, StoredEvent, TextMatches
from envhub.store.keys import among
from envhub.store.payloads.elsewhere import Elsewhere, read
from envhub.store.sql_projection import ROLLOUTS, Query, rollout_summary
from envhub.store.tables import EventRow, RolloutRow
from envhub.store.text_search import BATCH, PATIENCE_S, SPOKEN, Spoken, TextIndex

_MADE: Mapping[str, ColumnElement[Any]] = {
    "place": RolloutRow.__table__.c.seq,
    "is_root": RolloutRow.parent.is_(None).label("is_root"),
}
_FACTS: Query = select(
    *(_MADE[name] if name in _MADE else RolloutRow.__table__.c[name] for name in RolloutFacts._fields)
)
_SPOKEN = (
    select(EventRow.seq, RolloutRow.seq.label("place"), EventRow.kind, EventRow.payload)
    .join(RolloutRow, RolloutRow.rollout_id == EventRow.rollout_id)
    .where(EventRow.kind.in_(SPOKEN))
)
_END = select(func.coalesce(func.max(EventRow.seq), 0))
_FIRST = select(EventRow.run_id, EventRow.at).order_by(EventRow.seq).limit(1)


def facts(connection: Connection, after: int, limit: int) -> Sequence[RolloutFacts]:
    """Of the rollouts past that place, in order."""
    query = _FACTS.where(RolloutRow.seq > after).order_by(RolloutRow.seq).limit(limit)
    return list(map(RolloutFacts._make, connection.execute(query)))


def ended_facts(connection: Connection, places: Collection[int]) -> Sequence[RolloutFacts]:
    """Of the rollouts at these places, those that have ended."""
    query = _FACTS.where(among(RolloutRow.seq, "given"), RolloutRow.status.is_not(None))
    return list(map(RolloutFacts._make, connection.execute(query, {"given": places})))


def events_of(
    connection: Connection, run_id: RunId, ids: Collection[RolloutId], kinds: Collection[str]
) -> list[Event | Elsewhere]:
    """Those of these rollouts, in the log's order; of all kinds where none is named."""
    query = select(EventRow.seq, EventRow.kind, EventRow.payload).where(
        EventRow.run_id == run_id, among(EventRow.rollout_id, "given")
    )
    if kinds:
        query = query.where(EventRow.kind.in_(kinds))
    # In the order of the index that finds them: SQLite would else walk through all of the run to avoid sorting.
    rows = connection.execute(query.order_by(EventRow.rollout_id, EventRow.seq), {"given": ids}).all()
    return [read(kind, payload) for _, kind, payload in sorted(rows, key=itemgetter(0))]


def log(connection: Connection, run_id: RunId, after: int, limit: int) -> Sequence[StoredEvent]:
    """Of a run, past that place."""
    query = select(EventRow.seq, EventRow.kind, EventRow.payload).where(EventRow.run_id == run_id, EventRow.seq > after)
    return list(map(StoredEvent._make, connection.execute(query.order_by(EventRow.seq).limit(limit))))


def rollouts_at(connection: Connection, places: Sequence[int]) -> tuple[RolloutSummary, ...]:
    """In the order of the places."""
    query = ROLLOUTS.add_columns(RolloutRow.seq).where(among(RolloutRow.seq, "given"))
    found = {row.seq: rollout_summary(row) for row in connection.execute(query, {"given": places})}
    return tuple(found[place] for place in places if place in found)


class TextSearch:
    """Search in the messages of one database."""

    def __init__(self, path: Path | None, whole: Callable[[bytes], bytes]) -> None:
        self._index = TextIndex(path)
        self._whole = whole  # the event for what stands for it in the log
        self._alone = threading.Lock()

    def find(self, connection: Connection, text: str) -> TextMatches:
        """Reads what is new, for a while, then looks."""
        last, first = connection.execute(_END).scalar_one(), connection.execute(_FIRST).one_or_none()
        until = time.monotonic() + PATIENCE_S
        with self._alone:
            end = self._index.begin(str(first))
            while end < last and time.monotonic() < until:
                end = self._read(connection, end, last)
            return TextMatches(self._index.find(text), end, last)

    def close(self) -> None:
        with self._alone:
            self._index.close()

    def _read(self, connection: Connection, after: int, last: int) -> int:
        """Takes in the next events; returns the `seq` of the last of them."""
        end = min(after + BATCH, last)
        rows = connection.execute(_SPOKEN.where(EventRow.seq > after, EventRow.seq <= end))
        spoken = [Spoken(row.seq, row.place, row.kind, self._whole(row.payload)) for row in rows]
        self._index.add(spoken, end)
        return end
