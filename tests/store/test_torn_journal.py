"""A journal that was torn inside a record lacks that batch whole; a damaged one says so. Nothing else suffers."""

import contextlib
import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest

from envhub.contracts.events import Event, GroupAcked
from envhub.contracts.ids import GroupId, LeaseId
from envhub.errors import StoreError
from envhub.monitor.verify import verify
from envhub.rollouts.resume import leftover
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.store_suite import RUN
from envhub.testing.traces import SampleRun, plain, sample_turn

pytestmark = pytest.mark.anyio
CUT = r"stored turn_recorded event of \d+ bytes is damaged"


def batches() -> list[list[Event]]:
    """Of a run: some of one event, some of many pages."""
    run = SampleRun(RUN)
    one, two = run.start(0, 0), run.start(0, 1)
    turns = [run.turn(one, sample_turn(index, output=3_000)) for index in range(3)]
    return [
        [run.started(), run.submitted(0)],
        [one, turns[0]],
        [two, *turns[1:]],
        [run.end(one)],
        [run.fail(two), run.closed(0, 0)],
    ]


async def written(path: Path, appended: Sequence[list[Event]]) -> list[int]:
    """Writes each batch; the length of the write-ahead log after each. The files are left as a killed process leaves
    them: nothing of the log is in the database yet."""
    store = await open_store(str(path))
    wal, ends = path.with_name(f"{path.name}-wal"), []
    for batch in appended:
        await store.append(batch)
        ends.append(wal.stat().st_size)
    for file in (path, wal):
        shutil.copy(file, file.with_name(f"left-{file.name}"))
    await store.close()
    return ends


async def check(path: Path, expected: Sequence[list[Event]]) -> None:
    store = await open_store(str(path))
    events = [plain(event) async for event in store.events(RUN)]
    assert events == [plain(event) for batch in expected for event in batch]
    assert (await verify(store)).findings == ()
    if events:
        assert (await leftover(store, RUN)).submitted == 1
    await store.append([] if events else batches()[0])
    await store.close()


async def test_a_batch_that_is_not_whole_is_not_there(tmp_path: Path) -> None:
    appended = batches()
    ends = await written(tmp_path / "run.db", appended)
    random_places = random.Random(0).sample(range(ends[0], ends[-1]), 12)
    for place in sorted({*random_places, *ends, ends[-1] - 1, ends[1] + 1}):
        torn = tmp_path / f"torn-{place}.db"
        shutil.copy(tmp_path / "left-run.db", torn)
        whole = (tmp_path / "left-run.db-wal").read_bytes()
        torn.with_name(f"{torn.name}-wal").write_bytes(whole[:place])
        await check(torn, appended[: sum(end <= place for end in ends)])


async def test_a_batch_with_a_flipped_bit_is_not_there_nor_what_came_after(tmp_path: Path) -> None:
    appended = batches()
    ends = await written(tmp_path / "run.db", appended)
    wal = tmp_path / "left-run.db-wal"
    damaged = bytearray(wal.read_bytes())
    damaged[(ends[1] + ends[2]) // 2] ^= 1
    wal.write_bytes(damaged)
    await check(tmp_path / "left-run.db", appended[:2])


async def test_an_event_that_was_cut_at_rest_is_named_and_its_group_is_not_resumed(tmp_path: Path) -> None:
    store = await with_cut_turns(tmp_path / "run.db", batches()[:-1])
    with pytest.raises(StoreError, match=CUT):
        await leftover(store, RUN)
    await store.close()


async def test_of_a_group_that_has_closed_nothing_is_read_but_for_its_delivery(tmp_path: Path) -> None:
    store = await with_cut_turns(tmp_path / "run.db", batches())
    (stored,) = (await leftover(store, RUN)).undelivered
    with pytest.raises(StoreError, match=CUT):
        await stored.read()
    await store.close()
    acked = [GroupAcked(RUN, 0.0, GroupId(f"{RUN}-0"), LeaseId(""))]
    store = await with_cut_turns(tmp_path / "acked.db", [*batches(), acked])
    assert not (await leftover(store, RUN)).undelivered
    await store.close()


async def with_cut_turns(path: Path, appended: Sequence[list[Event]]) -> SqlTraceStore:
    await written(path, appended)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        cut = "UPDATE events SET payload = substr(payload, 1, length(payload) / 2) WHERE kind = 'turn_recorded'"
        connection.execute(cut)
    return await open_store(str(path))
