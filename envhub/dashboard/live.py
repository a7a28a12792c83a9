"""Server-sent events: what a page shows, again whenever it has changed.

All viewers of one thing share its looks: a second viewer costs the writing alone.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass

import anyio

CHANGED = "event: changed\ndata: {}\n\n"
STILL = ": still\n\n"  # a comment; writing it is how a server finds out that the page is gone
KEPT = 256  # things that somebody looks at

Look = Callable[[], Awaitable[object]]


async def changes(look: Look, tick: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """CHANGED at once, since things may have changed before this stream began; then after each `tick`, CHANGED where
    `look` gives another answer than before, STILL where it does not."""
    seen = await look()
    yield CHANGED
    while True:
        await tick()
        now = await look()
        yield STILL if now == seen else CHANGED
        seen = now


def event(name: str, data: str) -> str:
    """One event; `data` is JSON of one line."""
    return f"event: {name}\ndata: {data}\n\n"


@dataclass(slots=True)
class _Looked:
    at: float
    answer: object


class SharedLooks:
    """What was seen lately, by what was looked at."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._looked: dict[Hashable, _Looked] = {}
        self._looking = anyio.Lock()

    async def look(self, key: Hashable, look: Callable[[], Awaitable[object]]) -> object:
        """What `look` says, or said less than a tick ago."""
        async with self._looking:
            now = anyio.current_time()
            found = self._looked.pop(key, None)
            if found is None or now - found.at >= self._every_s:
                found = _Looked(now, await look())
            self._looked[key] = found
            while len(self._looked) > KEPT:
                del self._looked[next(iter(self._looked))]
            return found.answer
