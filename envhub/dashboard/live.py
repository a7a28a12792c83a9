"""Server-sent events that tell a page when what it shows has changed."""

from collections.abc import AsyncIterator, Awaitable, Callable

from envhub.contracts.ids import RolloutId
from envhub.contracts.store import RolloutQuery, TraceStore

WATCHED = 100  # rollouts, the newest of the list or the first of a tree, whose turns are watched too
CHANGED = "event: changed\ndata: {}\n\n"
STILL = ": still\n\n"  # a comment; writing it is how a server finds out that the page is gone


async def changes(look: Callable[[], Awaitable[object]], tick: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    """CHANGED at once, since things may have changed before this stream began; then after each `tick`, CHANGED where
    `look` gives another answer than before, STILL where it does not."""
    seen = await look()
    yield CHANGED
    while True:
        await tick()
        now = await look()
        yield STILL if now == seen else CHANGED
        seen = now


async def look_at_list(store: TraceStore) -> object:
    """What differs once a member changes its state, a rollout starts or ends, or one of the newest takes a turn."""
    return await store.runs(), await store.rollouts(RolloutQuery(limit=WATCHED))


async def look_at_tree(store: TraceStore, rollout_id: RolloutId) -> object:
    """What differs once this rollout, or one in the tree it stands in, starts, takes a turn or ends."""
    summary = await store.rollout(rollout_id)
    return summary, summary and await store.rollouts(RolloutQuery(root=summary.root, limit=WATCHED))
