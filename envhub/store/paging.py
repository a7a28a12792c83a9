"""Cursors of rollout pages: a page continues after the last rollout shown, so rows that are added don't shift it."""

import re

from envhub.contracts.store import RolloutQuery
from envhub.errors import UsageError

MAX_LIMIT = 1000
_CURSOR = re.compile(r"(newest|tree)-([1-9][0-9]{0,17})")


def position(query: RolloutQuery) -> int | None:
    """The place in the store, counted from 1, of the last rollout that was shown; None on the first page.

    Raises:
        UsageError: a cursor that no page gave, or a limit outside 1..1000.
    """
    if not 1 <= query.limit <= MAX_LIMIT:
        raise UsageError(f"limit is {query.limit}; a page has 1 to {MAX_LIMIT} rollouts")
    if not query.cursor:
        return None
    match = _CURSOR.fullmatch(query.cursor)
    if match is None or match[1] != _order(query):
        raise UsageError(f"cursor '{query.cursor}' is of no page of this query; take `next_cursor` of the page before")
    return int(match[2])


def next_cursor(query: RolloutQuery, last: int) -> str:
    """The cursor of the page after the one that ends with the rollout at `last`."""
    return f"{_order(query)}-{last}"


def _order(query: RolloutQuery) -> str:
    return "newest" if query.root is None else "tree"
