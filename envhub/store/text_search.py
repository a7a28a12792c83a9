"""Text search: which rollouts have said some words, from an index that is written while somebody asks.

The index is an SQLite file of its own, PATH.search, or a temporary one over PostgreSQL: who records pays nothing for
it, and it may be deleted at any time.
"""

import json
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from envhub.errors import UsageError
from envhub.store.text import well_formed

SPOKEN = ("turn_recorded", "step_recorded")  # kinds of events that hold messages
VERSION = 1  # of the index: another one's is written anew
MATCHES = 200_000  # of events, the newest, that a search looks at
BATCH = 2_000  # events read at once
PATIENCE_S = 0.5  # of one search, for events that are not in the index yet
EVENTS_BITS = 40  # of a document's number that tell its event apart from others of its rollout

_WORD = re.compile(r"[^\W_]+")
_PART = re.compile(r'"([^"]*)"?|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Phrase:
    """Words that stand beside each other; of one word alone, its beginning is enough."""

    words: tuple[str, ...]
    exact: bool

    def matches(self, said: Sequence[str]) -> bool:
        """Whether these words, in lower case, hold it."""
        if not self.exact:
            return any(word.startswith(self.words[0]) for word in said)
        length = len(self.words)
        return any(tuple(said[at : at + length]) == self.words for at in range(len(said) - length + 1))

    def as_fts(self) -> str:
        return f'"{" ".join(self.words)}"{"" if self.exact else "*"}'


def phrases_of(text: str) -> list[Phrase]:
    """What is looked for.

    Raises:
        UsageError: no word at all.
    """
    found = []
    for quoted, bare in _PART.findall(text):
        words = words_of(quoted or bare)
        found += [Phrase(tuple(words), True)] if quoted and words else [Phrase((word,), False) for word in words]
    if not found:
        raise UsageError(f"there is no word to look for in '{text}'; give one, or a \"phrase\" in quotes")
    return found


def words_of(text: str) -> list[str]:
    """In lower case, as the index tells them apart."""
    return _WORD.findall(well_formed(text).lower())


class _Call(msgspec.Struct):
    name: str
    arguments: Any = None  # whatever JSON a model wrote


class _Said(msgspec.Struct):
    content: str = ""
    reasoning: str = ""
    tool_calls: list[_Call] = []


class _SpokenTurn(msgspec.Struct):
    messages: list[_Said]
    response: _Said


class _SpokenStep(msgspec.Struct):
    turn: int
    action: _Said
    observation: list[_Said]


class _TurnEvent(msgspec.Struct):
    turn: _SpokenTurn


class _StepEvent(msgspec.Struct):
    step: _SpokenStep


_TURN, _STEP = msgspec.msgpack.Decoder(_TurnEvent), msgspec.msgpack.Decoder(_StepEvent)


def text_of(kind: str, payload: bytes) -> str:
    """All that is said in a stored turn or step, but for what a turn has said already."""
    if kind == SPOKEN[0]:
        turn = _TURN.decode(payload).turn
        messages = [*turn.messages, turn.response]
    else:
        step = _STEP.decode(payload).step
        messages = step.observation if step.turn >= 0 else [step.action, *step.observation]
    return "\n".join(filter(None, _texts(messages)))


def _texts(messages: Iterable[_Said]) -> Iterator[str]:
    for message in messages:
        yield message.content
        yield message.reasoning
        for call in message.tool_calls:
            yield call.name
            yield json.dumps(call.arguments, ensure_ascii=False, default=str)


@dataclass(frozen=True, slots=True)
class Spoken:
    """An event that holds messages."""

    seq: int
    place: int  # of its rollout
    kind: str
    payload: bytes


class TextIndex:
    """The index of one database, in a file, or for as long as it is open. Its methods block: call them in a thread, one
    at a time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None  # where there is no place beside the database

    def begin(self, first: str) -> int:
        """The `seq` of the last event that it has read; 0 where it is the index of a database whose first event was
        another one."""
        connection = self._open()
        end, of = connection.execute("SELECT seq, first_event FROM state").fetchone()
        if of == first:
            return int(end)
        _make(connection, first)
        return 0

    def add(self, events: Sequence[Spoken], end: int) -> None:
        """Takes in events, and that it has read up to `end`."""
        rows = [((event.place << EVENTS_BITS) + event.seq, text_of(event.kind, event.payload)) for event in events]
        connection = self._open()
        with connection:
            connection.executemany("INSERT INTO said (rowid, text) VALUES (?, ?)", rows)
            connection.execute("UPDATE state SET seq = ?", (end,))

    def find(self, text: str) -> list[int]:
        """The places of rollouts, of the newest that match.

        Raises:
            UsageError: there is no word in it.
        """
        wanted = " AND ".join(phrase.as_fts() for phrase in phrases_of(text))
        query = (
            "SELECT DISTINCT rowid >> ? FROM (SELECT rowid FROM said WHERE said MATCH ? ORDER BY rowid DESC LIMIT ?)"
        )
        rows = self._open().execute(query, (EVENTS_BITS, wanted, MATCHES)).fetchall()
        return [place for (place,) in rows]

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._folder is not None:
            self._folder.cleanup()
        self._connection = self._folder = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        if self._path is not None:
            with suppress(sqlite3.OperationalError):  # nobody may write there
                return _connect(self._path)
        self._folder = tempfile.TemporaryDirectory(prefix="envhub-search-")
        return _connect(Path(self._folder.name, "search"))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")  # it can be written again
        if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            _make(connection, "")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _make(connection: sqlite3.Connection, first: str) -> None:
    with connection:
        connection.execute("DROP TABLE IF EXISTS said")
        connection.execute("DROP TABLE IF EXISTS state")
        connection.execute(
            "CREATE VIRTUAL TABLE said USING fts5(text, content='', tokenize='unicode61 remove_diacritics 0')"
        )
        connection.execute("CREATE TABLE state (seq INTEGER NOT NULL, first_event TEXT NOT NULL)")
        connection.execute("INSERT INTO state VALUES (0, ?)", (first,))
        connection.execute(f"PRAGMA user_version = {VERSION}")
