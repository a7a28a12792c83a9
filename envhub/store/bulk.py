"""Rows written many a statement; in PostgreSQL as postgres/bulk.py does it.

SQLite gives the interpreter's lock away and takes it back for every statement that it runs: while the loop is busy,
that costs more than the row itself (docs/adr/005-what-a-turn-costs.md).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain

from sqlalchemy import Connection

from envhub.store.address import POSTGRES
from envhub.store.postgres import bulk as postgres_bulk
from envhub.store.postgres.bulk import Values

CHUNKS = (256, 64, 16, 4, 1)  # rows a statement: a few lengths, so that each is compiled once; 256 rows of 23 fit


def insert(connection: Connection, table: str, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Adds the rows, in order."""
    if connection.dialect.name == POSTGRES:
        return postgres_bulk.insert(connection, table, columns, rows)
    for chunk in _chunks(rows):
        connection.exec_driver_sql(_insertion(table, columns, len(chunk)), _flat(chunk))


def update(
    connection: Connection, table: str, keys: tuple[str, ...], columns: tuple[str, ...], rows: Sequence[Values]
) -> None:
    """Sets `columns` of the rows that `keys` name; the values of a row are those of its keys, then of its columns."""
    if connection.dialect.name == POSTGRES:
        return postgres_bulk.update(connection, table, keys, columns, rows)
    for chunk in _chunks(rows):
        connection.exec_driver_sql(_change(table, keys, columns, len(chunk)), _flat(chunk))


def _chunks(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    at = 0
    for size in CHUNKS:
        while len(rows) - at >= size:
            yield rows[at : at + size]
            at += size


def _flat(rows: Sequence[Values]) -> Values:
    return tuple(chain.from_iterable(rows))


@lru_cache
def _insertion(table: str, columns: tuple[str, ...], rows: int) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {_places(len(columns), rows)}"


@lru_cache
def _change(table: str, keys: tuple[str, ...], columns: tuple[str, ...], rows: int) -> str:
    given = [f"given.column{place}" for place in range(1, len(keys) + len(columns) + 1)]
    of_row = " AND ".join(f"{table}.{key} = {value}" for key, value in zip(keys, given, strict=False))
    changes = ", ".join(f"{name} = {value}" for name, value in zip(columns, given[len(keys) :], strict=True))
    places = _places(len(given), rows)
    return f"UPDATE {table} SET {changes} FROM (VALUES {places}) AS given WHERE {of_row}"


def _places(columns: int, rows: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)
