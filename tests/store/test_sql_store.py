"""The SQLite store passes the suite, opens what it should and nothing else, and loses nothing when it is killed."""

import contextlib
import random
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import anyio.abc
import pytest

from envhub.contracts.store import RolloutQuery, RolloutSummary
from envhub.errors import StoreError, UsageError
from envhub.store import sql_store
from envhub.store.codec import encode
from envhub.store.projection import Projection
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.store_suite import RUN, BrowsableStoreSuite
from envhub.testing.traces import SampleRun, sample_events, sample_turn

pytestmark = pytest.mark.anyio


class TestSqlTraceStore(BrowsableStoreSuite):
    @pytest.fixture
    async def store(self, tmp_path):
        store = await open_store(str(tmp_path / "traces.db"))
        yield store
        await store.close()

    @pytest.fixture
    def reopen(self, tmp_path):
        return partial(open_store, str(tmp_path / "traces.db"))


# Appends group after group to the database it is given, each in one batch, and says which are durable.
WRITER = """
import sys, anyio
from envhub.store.sql_store import open_store
from envhub.testing.traces import SampleRun, sample_turn

async def main(path):
    store = await open_store(path)
    run = SampleRun()
    await store.append([run.started()])
    for number in range(1_000_000):
        one, two = run.start(number, 0), run.start(number, 1)
        turns = [run.turn(one, sample_turn(index, output=2_000)) for index in range(20)]
        ends = [run.end(one), run.fail(two), run.closed(number, 0)]
        await store.append([run.submitted(number), one, two, *turns, *ends])
        print(number, flush=True)

anyio.run(main, sys.argv[1])
"""
EVENTS_A_GROUP = 26


@asynccontextmanager
async def writer(path: Path) -> AsyncIterator[anyio.abc.Process]:
    process = await anyio.open_process([sys.executable, "-c", WRITER, str(path)])
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.aclose()


async def replayed(store: SqlTraceStore) -> Projection:
    state = Projection()
    async for event in store.events(RUN):
        state.apply(event)
    return state


@pytest.mark.parametrize("seed", range(5))
async def test_what_was_durable_survives_kill_9(tmp_path: Path, seed: int) -> None:
    async with writer(tmp_path / "traces.db") as process:
        output = await process.stdout.receive()
        await anyio.sleep(random.Random(seed).uniform(0.0, 0.3))
        process.kill()
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                output += await process.stdout.receive()
    durable = len(output.splitlines())
    store = await open_store(str(tmp_path / "traces.db"))
    groups = await store.groups(RUN)
    assert durable <= len(groups) <= durable + 1
    assert len([event async for event in store.events(RUN)]) == 1 + EVENTS_A_GROUP * len(groups)
    (run,) = await store.runs()
    assert run.members.conserved and run.members.submitted == 2 * len(groups)
    state = await replayed(store)
    assert tuple(state.groups.values()) == groups
    assert state.rollouts == {rollout.rollout_id: rollout async for rollout in every_rollout(store)}
    run_again = SampleRun(RUN)
    await store.append([run_again.submitted(len(groups))])
    await store.close()


async def every_rollout(store: SqlTraceStore) -> AsyncIterator[RolloutSummary]:
    query = RolloutQuery(limit=1000)
    while True:
        page = await store.rollouts(query)
        for rollout in page.rollouts:
            yield rollout
        if not page.next_cursor:
            return
        query = replace(query, cursor=page.next_cursor)


async def test_reader_sees_whole_batches_while_another_process_writes(tmp_path: Path) -> None:
    async with writer(tmp_path / "traces.db") as process:
        await process.stdout.receive()
        store = await open_store(str(tmp_path / "traces.db"), read_only=True)
        before = 0
        for _ in range(10):
            (run,) = await store.runs()
            page = await store.rollouts(RolloutQuery(limit=1))
            assert run.members.conserved and run.members.submitted >= before
            assert page.total >= run.members.submitted
            before = run.members.submitted
        events = [event async for event in store.events(RUN)]
        assert len(events) >= 1 + EVENTS_A_GROUP * before // 2
        await store.close()


async def test_two_writers_take_turns(tmp_path: Path) -> None:
    stores = [await open_store(str(tmp_path / "traces.db")) for _ in range(2)]
    run = SampleRun(RUN)
    await stores[0].append([run.started()])
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(stores[number % 2].append, [run.submitted(number)])
    (summary,) = await stores[0].runs()
    assert summary.members.submitted == 40 and summary.members.conserved
    for store in stores:
        await store.close()


async def test_close_waits_for_readers(tmp_path: Path) -> None:
    store = await open_store(str(tmp_path / "traces.db"))
    await store.append(sample_events())
    told = []

    async def read_on() -> None:
        try:
            while True:
                assert len([event async for event in store.events(RUN)]) == 56
        except StoreError as error:
            told.append(str(error))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(read_on)
        await anyio.sleep(0.02)
        await store.close()
    assert len(told) == 8 and all("is closed" in message for message in told)


async def test_read_only_store_reads_and_refuses_to_write(tmp_path: Path) -> None:
    path = str(tmp_path / "what ? 100% #1.db")
    store = await open_store(path)
    await store.append(sample_events())
    await store.close()
    reader = await open_store(path, read_only=True)
    (run,) = await reader.runs()
    assert run.members.drained
    with pytest.raises(StoreError, match="read-only"):
        await reader.append([SampleRun(RUN).announced(3)])
    await reader.close()
    assert await anyio.Path(path).is_file()


async def test_damaged_event_is_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    store = await open_store(str(path))
    await store.append(sample_events())
    edit(path, "UPDATE events SET payload = substr(payload, 1, 9) WHERE kind = 'group_acked'")
    with pytest.raises(StoreError, match="group_acked event of 9 bytes is damaged"):
        [event async for event in store.events(RUN)]
    edit(path, "UPDATE events SET kind = 'group_painted' WHERE kind = 'group_acked'")
    with pytest.raises(StoreError, match="'group_painted' event"):
        [event async for event in store.events(RUN)]
    await store.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "names no file"),
        (":memory:", "MemoryTraceStore"),
        ("sqlite://", "names no file"),
        ("mysql://somebody:secret@host/traces", "is of mysql"),
        ("nowhere/traces.db", "no directory"),
    ],
)
async def test_name_of_no_file_is_refused(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        await open_store(name)
    assert "secret" not in str(caught.value)


async def test_missing_file_is_not_made_to_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no database"):
        await open_store(str(tmp_path / "traces.db"), read_only=True)
    with pytest.raises(UsageError, match="no database"):
        await open_store(f"sqlite:///{tmp_path}/traces.db", read_only=True)


@pytest.mark.parametrize(("most_events", "most_bytes"), [(1, 1 << 20), (7, 1 << 20), (512, 1), (512, 2_000)])
async def test_log_is_read_whole_in_whatever_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_events: int, most_bytes: int
) -> None:
    events = sample_events()
    store = await open_store(str(tmp_path / "traces.db"))
    await store.append(events)
    monkeypatch.setattr(sql_store, "EVENTS_A_READ", most_events)
    monkeypatch.setattr(sql_store, "BYTES_A_READ", most_bytes)
    read = [event async for event in store.events(events[0].run_id)]
    await store.close()
    assert [encode(event) for event in read] == [encode(event) for event in events]


def edit(path: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


async def test_a_full_disk_is_said_and_what_was_durable_stays(tmp_path: Path) -> None:
    store = await open_store(str(tmp_path / "traces.db"))
    run, before = SampleRun(RUN), sample_events("before")
    await store.append(before)

    async def limit(pages: int) -> None:
        await store._database.write(lambda writer: writer.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))

    await limit(1)  # SQLite takes that as no more than it has
    start = run.start(0, 0)
    batch = [run.started(), run.submitted(0), start, run.turn(start, sample_turn(0, output=50_000))]
    with pytest.raises(StoreError, match=r"its disk is full: make room, then go on with the run .*--resume.*is full"):
        await store.append(batch)
    assert [summary.run_id for summary in await store.runs()] == ["before"]
    await limit(1 << 20)
    await store.append(batch)
    assert len([event async for event in store.events(RUN)]) == len(batch)
    await store.close()
