"""The PostgreSQL store passes the suite of all stores, and takes writers and readers side by side."""

import sys
from functools import partial

import anyio
import psycopg
import pytest

from envhub.contracts.store import RolloutQuery
from envhub.errors import StoreError
from envhub.store.sql_store import open_store
from envhub.testing.store_suite import RUN, BrowsableStoreSuite
from envhub.testing.traces import SampleRun, plain, sample_events
from tests.store.conftest import text_of

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]


class TestPostgresStore(BrowsableStoreSuite):
    pytestmark = pytest.mark.postgres

    @pytest.fixture
    async def store(self, postgres):
        store = await open_store(text_of(postgres))
        yield store
        await store.close()

    @pytest.fixture
    def reopen(self, postgres):
        return partial(open_store, text_of(postgres))


# Appends thirty groups, each in one batch, to the run in the database it is given.
WRITER = """
import sys, anyio
from envhub.store.sql_store import open_store
from envhub.testing.store_suite import RUN
from envhub.testing.traces import SampleRun

async def main(url, first):
    store, run = await open_store(url), SampleRun(RUN)
    for number in range(int(first), int(first) + 30):
        one = run.start(number, 0)
        await store.append([run.submitted(number, k=1), one, run.end(one), run.closed(number, 0)])
    await store.close()

anyio.run(main, *sys.argv[1:])
"""


async def test_writers_of_many_processes_take_turns_and_a_reader_misses_nothing(postgres) -> None:
    store, seen = await open_store(text_of(postgres)), 1
    await store.append([SampleRun(RUN).started()])
    async with anyio.create_task_group() as tasks:
        for first in ("0", "30"):
            tasks.start_soon(anyio.run_process, [sys.executable, "-c", WRITER, text_of(postgres), first])
        while seen < 1 + 2 * 30 * 4:  # as who follows the log: on from what was seen last
            places = [event.place for event in await store.log(RUN, seen, 1000)]
            assert places == list(range(seen + 1, seen + len(places) + 1))
            seen += len(places)
            await anyio.sleep(0.01)
    (run,) = await store.runs()
    assert run.members.conserved and run.members.submitted == 60
    await store.close()


async def test_a_refused_batch_leaves_no_gap_in_the_log_and_nothing_remembered(postgres) -> None:
    store = await open_store(text_of(postgres))
    run = SampleRun(RUN)
    await store.append([run.started(), run.submitted(0)])
    with pytest.raises(StoreError, match="impossible"):
        await store.append([run.start(0, 0), run.submitted(0)])
    start = run.start(0, 0)
    await store.append([start, run.end(start)])
    assert [event.place for event in await store.log(RUN, 0, 10)] == [1, 2, 3, 4]
    await store.close()


async def test_read_only_store_reads_while_another_writes_and_refuses_to_write(postgres) -> None:
    url = text_of(postgres)
    writer = await open_store(url)
    await writer.append(sample_events())
    reader = await open_store(url, read_only=True)
    await writer.append(sample_events("other"))
    assert [plain(event) async for event in reader.events(RUN)] == [plain(event) for event in sample_events()]
    assert (await reader.rollouts(RolloutQuery())).total
    with pytest.raises(StoreError, match="read-only"):
        await reader.append(sample_events("third"))
    for store in (reader, writer):
        await store.close()


async def test_damaged_event_is_named(postgres) -> None:
    store = await open_store(text_of(postgres))
    await store.append(sample_events())
    with psycopg.connect(text_of(postgres)) as connection:
        connection.execute("UPDATE events SET payload = substr(payload, 1, 9) WHERE kind = 'group_acked'")
    with pytest.raises(StoreError, match="group_acked event of 9 bytes is damaged"):
        [event async for event in store.events(RUN)]
    await store.close()
