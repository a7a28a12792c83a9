"""Many at once, cancelled, closed and opened again."""

from collections.abc import Awaitable, Callable

import anyio
import pytest

from envhub.contracts.events import Event
from envhub.contracts.members import MemberState
from envhub.contracts.store import TraceStore
from envhub.errors import StoreError
from envhub.testing.store_suite.base import Base
from envhub.testing.store_suite.tools import RUN, everything, read
from envhub.testing.traces import SampleRun, plain, sample_events, sample_turn

SCORED = MemberState.SCORED


class Life(Base):
    """Many at once, cancelled, closed and opened again."""

    async def test_appends_side_by_side_all_arrive(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        starts = [run.start(number, 0) for number in range(20)]
        await store.append([run.started(), *(run.submitted(number, k=1) for number in range(20))])
        async with anyio.create_task_group() as tasks:
            for start in starts:
                batch: list[Event] = [start, run.turn(start, sample_turn(0)), run.end(start)]
                tasks.start_soon(store.append, batch)
        (summary,) = await store.runs()
        assert summary.members.by_state == {SCORED: 20}
        ids = [getattr(event, "rollout_id", None) async for event in store.events(RUN)]
        assert all(ids.count(start.rollout_id) == 3 for start in starts)

    async def test_append_that_is_cancelled_is_whole_or_absent(self, store: TraceStore) -> None:
        run = SampleRun(RUN)
        await store.append([run.started()])
        for number in range(8):
            with anyio.move_on_after(number * 0.001):
                await store.append([run.submitted(number), run.announced(number)])
        events = await read(store)
        groups = await store.groups(RUN)
        assert len(events) == 1 + 2 * len(groups)
        (summary,) = await store.runs()
        assert summary.members.conserved and summary.members.submitted == 2 * len(groups)

    async def test_events_read_while_others_are_appended_are_a_prefix(self, store: TraceStore) -> None:
        await store.append(events := sample_events())
        seen: list[object] = []
        async for event in store.events(RUN):
            if not seen:
                await store.append(sample_events("other"))
            seen.append(plain(event))
        assert seen == [plain(event) for event in events]

    async def test_close_is_idempotent_and_final(self, store: TraceStore) -> None:
        await store.close()
        await store.close()
        with pytest.raises(StoreError, match="closed"):
            await store.runs()
        with pytest.raises(StoreError, match="closed"):
            await store.append(sample_events())

    async def test_what_was_appended_is_there_after_reopening(
        self, store: TraceStore, reopen: Callable[[], Awaitable[TraceStore]] | None
    ) -> None:
        if reopen is None:
            return
        await store.append(sample_events())
        before = await everything(store)
        await store.close()
        again = await reopen()
        try:
            assert await everything(again) == before
            await again.append(sample_events("next"))
        finally:
            await again.close()
