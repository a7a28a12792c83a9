"""A connection to PostgreSQL may be lost at any moment: what was appended is there once, or the error says that not."""

import anyio
import pytest
from sqlalchemy.engine import make_url

from envhub.contracts.events import Event
from envhub.errors import StoreError, UsageError
from envhub.store.postgres.database import PostgresDatabase
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.store_suite import RUN
from envhub.testing.traces import SampleRun, plain, sample_events
from tests.store.conftest import text_of, until_it_can_be_held
from tests.store.weak_link import WeakLink

pytestmark = [pytest.mark.anyio, pytest.mark.postgres]

MOMENTS = [b"pg_advisory_xact_lock", b"UPDATE runs", b"COPY events", b"COMMIT\0"]


@pytest.fixture
async def store(link: WeakLink):
    await (await open_store(link.url)).close()
    store = with_patience(link, 20.0)
    yield store
    link.closed = False
    await store.close()


def with_patience(link: WeakLink, seconds: float) -> SqlTraceStore:
    return SqlTraceStore(PostgresDatabase(make_url(link.url), read_only=False, patience_s=seconds))


async def check(store: SqlTraceStore, events: list[Event]) -> None:
    assert [plain(event) async for event in store.events(RUN)] == [plain(event) for event in events]


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda said: said.decode().rstrip("\0"))
async def test_what_was_appended_when_the_connection_broke_is_there_once(
    store: SqlTraceStore, link: WeakLink, moment: bytes, answered: bool
) -> None:
    run = SampleRun(RUN)
    batches = [[run.started()], [run.submitted(0)], [run.submitted(1)], [run.submitted(2)]]
    await store.append(batches[0])
    link.answered, link.cut_at = answered, moment
    for batch in batches[1:]:
        await store.append(batch)
    assert link.cut_at == b"", "nobody said it"
    await check(store, [event for batch in batches for event in batch])
    (summary,) = await store.runs()
    assert summary.members.conserved and summary.members.submitted == 6


async def test_another_writer_between_two_tries_is_taken_into_account(
    store: SqlTraceStore, link: WeakLink, postgres
) -> None:
    """A batch as long as the lost one: by its length alone the log would seem to be as it was left."""
    run = SampleRun(RUN)
    await store.append([run.started(), run.submitted(0)])
    other = await open_store(text_of(postgres))
    start, again = run.start(0, 0), run.start(0, 1)
    link.cut_at, link.closed = b"COMMIT\0", True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, [start])
        await link.was_cut.wait()
        await other.append([again])
        link.closed = False
    await store.append([run.end(start), run.end(again)])
    assert len([event async for event in store.events(RUN)]) == 6
    (summary,) = await store.runs()
    assert summary.members.conserved
    await other.close()


async def test_who_reads_when_the_connection_breaks_reads_all(store: SqlTraceStore, link: WeakLink) -> None:
    await store.append(sample_events())
    await store.runs()
    link.cut()
    await check(store, sample_events())


async def test_a_server_that_stays_away_is_an_error_after_a_while_and_is_found_again(link: WeakLink) -> None:
    await (await open_store(link.url)).close()
    store, run = with_patience(link, 0.3), SampleRun(RUN)
    await store.append([run.started()])
    link.closed = True
    link.cut()
    with anyio.fail_after(20):
        with pytest.raises(StoreError, match=r"failed: .*connection"):
            await store.append([run.submitted(0)])
        with pytest.raises(StoreError, match=r"failed: .*connection"):
            await store.runs()
    link.closed = False
    await store.append([run.submitted(0)])
    (summary,) = await store.runs()
    assert summary.members.submitted == 2
    await store.close()


async def test_who_lost_a_run_to_another_process_writes_nothing_more(
    store: SqlTraceStore, link: WeakLink, postgres
) -> None:
    run, other = SampleRun(RUN), await open_store(text_of(postgres))
    await store.append([run.started()])
    async with store.hold(RUN):
        link.closed = True
        link.cut()
        await until_it_can_be_held(other)
        link.closed = False
        async with other.hold(RUN):
            with pytest.raises(
                StoreError, match=r"run 'sample' was taken over by envhub, process \d+ on .*this one ends"
            ):
                await store.append([run.submitted(0)])
        await store.append([run.submitted(0)])  # free again, and taken again
        with pytest.raises(UsageError, match="still running"):
            async with other.hold(RUN):
                raise AssertionError("both hold it")
    await other.close()


async def test_a_run_is_held_again_though_the_server_did_not_hear_of_the_cut(
    store: SqlTraceStore, link: WeakLink
) -> None:
    run, link.silent = SampleRun(RUN), True
    await store.append([run.started()])
    async with store.hold(RUN):
        link.cut()
        with anyio.fail_after(20):
            await store.append([run.submitted(0)])
    (summary,) = await store.runs()
    assert summary.members.submitted == 2
