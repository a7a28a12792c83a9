"""Rows written to PostgreSQL in their binary form: new ones by COPY, changes as an array a column."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias, cast

from sqlalchemy import Connection

from envhub.store.tables import Base

Values: TypeAlias = tuple[Any, ...]  # of one row, in the order of its columns: each of the type that its column has

_BINARY = {bool: "bool", int: "int8", float: "float8", str: "text", bytes: "bytea"}


def insert(connection: Connection, table: str, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """Adds the rows, in order."""
    if not rows:
        return
    # Any: SQLAlchemy knows no COPY; this is psycopg's own cursor.
    with cast(Any, connection.connection.cursor()) as cursor, cursor.copy(_copy(table, columns)) as copy:
        copy.set_types(_types(table, columns))
        for row in rows:
            copy.write_row(row)


def update(
    connection: Connection, table: str, keys: tuple[str, ...], columns: tuple[str, ...], rows: Sequence[Values]
) -> None:
    """Sets `columns` of the rows that `keys` name; the values of a row are those of its keys, then of its columns."""
    if not rows:
        return
    names = (*keys, *columns)
    given = zip(_types(table, names), zip(*rows, strict=True), strict=True)
    arrays = tuple(list(map(_as_float, values)) if type == "float8" else list(values) for type, values in given)
    connection.exec_driver_sql(_change(table, keys, columns), arrays)


def _as_float(value: float | None) -> float | None:
    """An array holds numbers of one type."""
    return None if value is None else float(value)


@lru_cache
def _types(table: str, columns: tuple[str, ...]) -> tuple[str, ...]:
    kinds = Base.metadata.tables[table].columns
    return tuple(_BINARY[kinds[name].type.python_type] for name in columns)


@lru_cache
def _copy(table: str, columns: tuple[str, ...]) -> str:
    return f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"


@lru_cache
def _change(table: str, keys: tuple[str, ...], columns: tuple[str, ...]) -> str:
    names = (*keys, *columns)
    arrays = ", ".join(f"%s::{type}[]" for type in _types(table, names))
    changes = ", ".join(f"{name} = given.{name}" for name in columns)
    of_row = " AND ".join(f"{table}.{key} = given.{key}" for key in keys)
    return f"UPDATE {table} SET {changes} FROM unnest({arrays}) AS given ({', '.join(names)}) WHERE {of_row}"
