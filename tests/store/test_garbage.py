"""Garbage is found and removed, and nothing that a run uses ever is, whoever writes meanwhile."""

import os
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from sqlalchemy import create_engine, delete, insert

from envhub.contracts.ids import RunId
from envhub.errors import StoreError, UsageError
from envhub.store import retention
from envhub.store.database import Database
from envhub.store.payloads import register
from envhub.store.payloads.garbage import Garbage, Heap, collect, garbage
from envhub.store.payloads.moving import move
from envhub.store.payloads.payloads import Payloads
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.store.tables import Base, PayloadPlaceRow, PayloadRow, PayloadUseRow
from tests.store.seeing import group_that_sees, names_in, picture

pytestmark = pytest.mark.anyio

NO_GRACE = 0.0
ONE, TWO, THREE = RunId("one"), RunId("two"), RunId("three")


@pytest.fixture
async def store(address: str, tmp_path: Path) -> AsyncIterator[SqlTraceStore]:
    store = await open_store(address, payloads=str(tmp_path / "payloads"))
    yield store
    await store.close()


def parts(store: SqlTraceStore) -> tuple[Database, Payloads]:
    """What a store is over."""
    assert store._payloads is not None
    return store._database, store._payloads


async def test_what_no_run_uses_any_more_is_found_and_removed(store: SqlTraceStore, tmp_path: Path) -> None:
    database, payloads = parts(store)
    alone, shared, small = picture("alone"), picture("shared"), picture("small", 1000)
    await store.append(group_that_sees(ONE, 0, alone, shared, small))
    await store.append(group_that_sees(TWO, 0, shared))
    assert await garbage(database, payloads, NO_GRACE) == Garbage(Heap(), Heap(), Heap(), ())
    await retention.prune(database, ONE)
    assert (await garbage(database, payloads)).payloads == Heap()  # it was wanted within the last day
    found = Garbage(Heap(1, 1000), Heap(1, len(alone.data)), Heap(), ())
    assert await garbage(database, payloads, NO_GRACE) == found
    assert names_in(tmp_path / "payloads") == {alone.sha256, shared.sha256}
    assert await collect(database, payloads, NO_GRACE) == found
    assert names_in(tmp_path / "payloads") == {shared.sha256}
    assert [await store.file(shown.sha256) for shown in (alone, shared, small)] == [None, shared.data, None]
    await store.append(group_that_sees(THREE, 0, alone))  # which is put again
    assert await store.file(alone.sha256) == alone.data


async def test_strays_are_removed_and_what_is_missing_is_named(store: SqlTraceStore, tmp_path: Path) -> None:
    database, payloads = parts(store)
    shown, stray = picture("shown"), "ab" * 32
    await store.append(group_that_sees(ONE, 0, shown))
    payloads.objects.put(stray, b"stray")
    for name, age_s in (("abcd.old.part", 2 * 86_400), ("abcd.new.part", 60)):
        part = payloads.objects._folder / "ab" / name
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age_s,) * 2)
    payloads.objects.remove([shown.sha256])
    found = Garbage(Heap(), Heap(), Heap(2, 9), (shown.sha256,))
    assert await garbage(database, payloads, NO_GRACE) == found
    assert await collect(database, payloads, NO_GRACE) == found
    assert names_in(tmp_path / "payloads") == {"abcd.new.part"}  # somebody is writing it


async def test_a_collector_that_dies_halfway_leaves_what_is_put_again(store: SqlTraceStore) -> None:
    database, payloads = parts(store)
    shown = picture("shown")
    await store.append(group_that_sees(ONE, 0, shown))
    await store.append(group_that_sees(TWO, 0))
    await retention.prune(database, ONE)
    await database.write(lambda connection: register.doom(connection, NO_GRACE, 10))
    payloads.objects.remove([shown.sha256])  # and here it dies, before its transaction ends
    await store.append(group_that_sees(THREE, 0, shown))
    assert await store.file(shown.sha256) == shown.data


async def test_runs_may_be_written_while_others_are_pruned_and_collected(store: SqlTraceStore, address: str) -> None:
    """Without any grace: a writer may be refused, but never is missing what it was told is durable."""
    database, payloads = parts(store)
    kept: dict[RunId, list[str]] = {}
    pictures, choice = [picture(f"shown {number}", 300_000) for number in range(4)], random.Random(7)
    over = anyio.Event()

    async def write() -> None:
        other = await open_store(address)
        for number in range(40):
            run_id, shown = RunId(f"run{number:02}"), choice.sample(pictures, 2)
            try:
                await other.append(group_that_sees(run_id, 0, *shown))
                kept[run_id] = [each.sha256 for each in shown]
            except StoreError as error:
                assert "removed while they were written" in str(error)
        await other.close()
        over.set()

    async def remove() -> None:
        while not over.is_set():
            for run_id in list(kept)[:-1]:
                await retention.prune(database, run_id)
                del kept[run_id]
            found = await collect(database, payloads, NO_GRACE)
            assert found.missing == ()
            await anyio.lowlevel.checkpoint()

    with anyio.fail_after(100):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            tasks.start_soon(remove)
    assert kept
    for hashes in kept.values():
        assert set(await payloads.get(hashes)) == set(hashes)


async def test_what_may_not_go_stays(store: SqlTraceStore, address: str) -> None:
    database, _ = parts(store)
    *unfinished, _, _ = group_that_sees(ONE, 0)
    await store.append(unfinished)
    await store.append(group_that_sees(TWO, 0))
    await store.append(group_that_sees(THREE, 0))
    reasons = {run.run_id: run.kept_because(unfinished=False) for run in await retention.runs_by_age(database)}
    assert reasons == {ONE: "it has not ended (--unfinished: all the same)", TWO: "", THREE: "the log ends with it"}
    other = await open_store(address)
    async with other.hold(TWO):
        with pytest.raises(UsageError, match="run 'two' is still running"):
            await retention.prune(database, TWO)
    await other.close()
    assert {run.run_id for run in await store.runs()} == {ONE, TWO, THREE}


async def test_a_pruned_run_leaves_nothing_also_where_the_removal_was_cut_off(
    store: SqlTraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, _ = parts(store)
    for run_id in (ONE, TWO, THREE):
        await store.append(group_that_sees(run_id, 0, picture("shown")))
    monkeypatch.setattr(retention, "ROWS", 2)  # some transactions a run
    await database.write(lambda connection: retention._hide(connection, ONE))
    await database.write(lambda connection: retention._drop_rows(connection, ONE, "events", "seq"))
    assert {run.run_id for run in await store.runs()} == {TWO, THREE}
    await retention.prune(database, TWO)
    assert await retention.prune_leftovers(database) == 1
    for name, table in Base.metadata.tables.items():
        if "run_id" in table.c:
            query = table.select().with_only_columns(table.c.run_id)
            left = await database.read(lambda connection, query=query: set(connection.execute(query).scalars()))
            assert left == {THREE}, name
    run_four = group_that_sees(RunId("four"), 0)
    await store.append(run_four)  # the writer goes on
    assert [event async for event in store.events(RunId("four"))] != []


async def test_moved_payloads_are_read_at_the_new_place_and_a_writer_to_the_old_one_ends(
    store: SqlTraceStore, address: str, tmp_path: Path
) -> None:
    database, payloads = parts(store)
    shown, later = picture("shown"), picture("later")
    await store.append(group_that_sees(ONE, 0, shown))
    moved = await move(database, str(tmp_path / "elsewhere"))
    assert moved == Heap(1, len(shown.data))
    with pytest.raises(StoreError, match="were moved to another place; go on with the run"):
        await store.append(group_that_sees(TWO, 0, later))
    assert [run.run_id for run in await store.runs()] == [ONE]
    payloads.objects.remove([shown.sha256])
    again = await open_store(address)
    await again.append(group_that_sees(TWO, 0, shown, later))
    assert [await again.file(each.sha256) for each in (shown, later)] == [shown.data, later.data]
    assert (await garbage(*parts(again))).missing == ()
    with pytest.raises(UsageError, match=r"are in '.*elsewhere' already"):
        await move(again._database, str(tmp_path / "elsewhere"))
    await again.close()


GRACE_S = 100.0
PAYLOADS = st.sampled_from([{"a"}, {"b"}, {"a", "b"}])
RUNS = st.sampled_from([ONE, TWO])


@dataclass(frozen=True)
class Writing:
    """Of a writer that has claimed, and not committed."""

    run_id: RunId
    names: set[str]
    missing: set[str]
    at: float


class PayloadKeepers(RuleBasedStateMachine):
    """Writers and collectors whose steps come in any order, and who may die between any two of them."""

    claimed: Bundle[Writing] = Bundle("claimed")
    written: Bundle[Writing] = Bundle("written")
    doomed: Bundle[list[str]] = Bundle("doomed")  # of collectors that have not removed yet

    @initialize()
    def begin(self) -> None:
        self.now = 1000.0
        self.engine = create_engine("sqlite://")
        self.connection = self.engine.connect()
        rows = (PayloadPlaceRow, PayloadRow, PayloadUseRow)
        Base.metadata.create_all(self.connection, tables=[row.__table__ for row in rows])
        self.connection.execute(insert(PayloadPlaceRow).values(number=1, url="here", folder="here"))
        self.place: set[str] = set()
        self.used: set[tuple[RunId, str]] = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(register, "clock", lambda connection: self.now)

    def teardown(self) -> None:
        self.patch.undo()
        self.connection.close()
        self.engine.dispose()

    @rule(target=claimed, run_id=RUNS, names=PAYLOADS)
    def claim(self, run_id: RunId, names: set[str]) -> Writing:
        missing = register.claim(self.connection, dict.fromkeys(names, 1))
        return Writing(run_id, names, missing, self.now)

    @rule(target=written, writing=consumes(claimed))
    def put(self, writing: Writing) -> Writing:
        if self.lives(writing):
            self.place |= writing.missing
        return writing

    @rule(writing=consumes(written))
    def commit(self, writing: Writing) -> None:
        if self.lives(writing):
            uses = {(writing.run_id, name) for name in writing.names}
            register.use(self.connection, uses)
            register.settle(self.connection, writing.names, "here")
            self.used |= uses

    @rule(run_id=RUNS)
    def prune(self, run_id: RunId) -> None:
        self.connection.execute(delete(PayloadUseRow).where(PayloadUseRow.run_id == run_id))
        self.used = {use for use in self.used if use[0] != run_id}

    @rule(target=doomed)
    def doom(self) -> list[str]:
        return [name for name, _ in register.doom(self.connection, GRACE_S, limit=2)]

    @rule(names=consumes(doomed), dies=st.booleans())
    def drop(self, names: list[str], dies: bool) -> None:
        found = register.still_doomed(self.connection, names, GRACE_S)
        self.place -= set(found)
        if not dies:
            register.forget(self.connection, found)

    @rule()
    def drop_strays(self) -> None:
        self.place &= register.known(self.connection, self.place)

    @rule(seconds=st.sampled_from([60.0, 150.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def what_runs_use_is_there_and_found(self) -> None:
        used = {name for _, name in self.used}
        assert used <= self.place
        assert used <= set(register.there(self.connection, used))

    def lives(self, writing: Writing) -> bool:
        """No writer tries for as long as the grace."""
        return self.now - writing.at < GRACE_S


TestPayloadKeepers = PayloadKeepers.TestCase
TestPayloadKeepers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
