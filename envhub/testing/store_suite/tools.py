"""What the suite's tests share."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from envhub.contracts.events import Event
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import RolloutQuery, RolloutSummary, TraceStore
from envhub.errors import StoreError
from envhub.testing.traces import SampleRun, plain

RUN = RunId("sample")
HOSTILE = "\x00 \u202e </script> ' \" \\ ; DROP TABLE rollouts -- 🙂 \U0010ffff \r\n" + "x" * 10_000


async def refuses(store: TraceStore, event: Event, why: str) -> None:
    with pytest.raises(StoreError, match=f"{type(event).__name__} .*{why}"):
        await store.append([event])


async def read(store: TraceStore, rollout_id: RolloutId | None = None) -> list[object]:
    return [plain(event) async for event in store.events(RUN, rollout_id)]


async def summary(store: TraceStore, id: RolloutId) -> RolloutSummary:
    found = await store.rollout(id)
    assert found is not None
    return found


async def summaries(store: TraceStore, run: str) -> list[object]:
    """Those of a run, without what names it."""
    page = await store.rollouts(RolloutQuery(run_id=RunId(run), limit=1000))
    return [str(rollout).replace(f"'{run}", "'RUN") for rollout in page.rollouts]


async def everything(store: TraceStore) -> list[object]:
    page = await store.rollouts(RolloutQuery(limit=1000))
    return [await read(store), await store.runs(), await store.groups(RUN), page]


async def with_rollouts(store: TraceStore, count: int, *, run: RunId = RUN) -> list[RolloutId]:
    """Starts that many rollouts; their ids, in order."""
    sample = SampleRun(run)
    starts = [sample.start(0, member) for member in range(count)]
    await store.append([sample.started(), sample.submitted(0, k=count), *starts])
    return [start.rollout_id for start in starts]


async def walk(store: TraceStore, query: RolloutQuery) -> AsyncIterator[list[RolloutId]]:
    """The ids on each page, to the last."""
    while True:
        page = await store.rollouts(query)
        yield [rollout.rollout_id for rollout in page.rollouts]
        if not page.next_cursor:
            return
        query = replace(query, cursor=page.next_cursor)
