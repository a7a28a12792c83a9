"""Objects are the same in a folder, in memory and in an S3 server, and that server may fail as servers do."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy.engine import URL

from envhub.app import Settings, play
from envhub.cli.export import destination
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.errors import StoreError, UsageError
from envhub.monitor.verify import verify
from envhub.rollouts.job import Job
from envhub.store import retention
from envhub.store.opening import opening
from envhub.store.payloads import garbage, packing, remote
from envhub.store.payloads import payloads as patience
from envhub.store.payloads.garbage import Garbage, Heap, collect
from envhub.store.payloads.local import LocalObjects
from envhub.store.payloads.objects import Object, Objects
from envhub.store.payloads.place import open_payloads
from envhub.store.payloads.remote import open_remote
from envhub.store.sql_store import open_store
from tests.store.s3_server import BUCKET, S3Server
from tests.store.seeing import group_that_sees, picture
from tests.store.weak_link import WeakLink, weak_link

pytestmark = pytest.mark.anyio

RUN, NEXT = RunId("seeing"), RunId("next")


@pytest.fixture(params=["folder", "memory", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "folder":
        return LocalObjects(tmp_path)
    if request.param == "memory":
        return open_remote("memory://objects", tmp_path.name)
    return open_remote(request.getfixturevalue("s3").url, tmp_path.name)


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_what_was_put_comes_back_until_it_is_removed(objects: Objects, size: int) -> None:
    objects.put("abcd", b"old")
    objects.put("abcd", data := bytes(range(256)) * (size // 256) or b"." * size)
    assert objects.get("abcd") == data
    objects.remove(["abcd", "ab-was-never-there"])
    with pytest.raises(FileNotFoundError):
        objects.get("abcd")


def test_a_shard_lists_its_own(objects: Objects) -> None:
    for name in ("ab1", "ab2", "ac1"):
        objects.put(name, name.encode())
    assert sorted(objects.shard("ab")) == [Object("ab1", 3), Object("ab2", 3)]
    assert list(objects.shard("00")) == []


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "traces.db")


async def test_a_store_in_s3_is_read_pruned_and_collected(
    s3: S3Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await open_store(database, payloads=f"{s3.url}/traces")
    alone, shared = picture("alone"), picture("shared")
    monkeypatch.setattr(garbage, "SHARDS", [alone.sha256[:2], shared.sha256[:2]])  # moto takes its time for each
    await store.append(group_that_sees(RUN, 0, alone, shared))
    await store.append(group_that_sees(NEXT, 0, shared))
    await store.close()
    reader = await open_store(database, read_only=True)
    assert [await reader.file(shown.sha256) for shown in (alone, shared)] == [alone.data, shared.data]
    await reader.close()
    async with opening(database, read_only=False) as opened:
        payloads = await open_payloads(opened, "", read_only=False)
        assert payloads is not None
        await retention.prune(opened, RUN)
        found = Garbage(Heap(), Heap(1, len(alone.data)), Heap(), ())
        assert await collect(opened, payloads, grace_s=0.0) == found
        await opened.close()
    assert keys_in(s3, "traces/") == {shared.sha256}


async def test_an_object_that_somebody_changed_is_not_taken(s3: S3Server, database: str) -> None:
    store = await open_store(database, payloads=f"{s3.url}/changed")
    shown = picture("shown")
    await store.append(group_that_sees(RUN, 0, shown))
    for found in s3.client.list_objects_v2(Bucket=BUCKET, Prefix="changed/")["Contents"]:
        s3.client.put_object(Bucket=BUCKET, Key=found["Key"], Body=b"something else")
    with pytest.raises(StoreError, match=f"payload {shown.sha256} in 's3://.*' is damaged: its 14 bytes have another"):
        await store.file(shown.sha256)
    await store.close()


async def test_wrong_credentials_are_said_and_not_shown(
    s3: S3Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not hers")
    with pytest.raises(StoreError, match=r"can't be written to 's3://.*': it does not let us .*credentials") as caught:
        await open_store(database, payloads=s3.url)
    assert "not hers" not in str(caught.value)


async def test_a_bucket_that_is_not_there_is_named(s3: S3Server, database: str) -> None:
    with pytest.raises(StoreError, match=r"written to 's3://no-bucket/x': it is not there .*make the bucket"):
        await open_store(database, payloads="s3://no-bucket/x")


async def test_nothing_begins_in_a_place_that_does_not_answer(
    s3: S3Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PROBE_PATIENCE_S", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"written to 's3://.*': it does not answer .*bring it back"):
        await open_store(database, payloads=s3.url)


@pytest.fixture
async def way(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WeakLink]:
    """To the server, which can be closed."""
    async with weak_link(URL.create("http", host="127.0.0.1", port=s3.port)) as link:
        monkeypatch.setenv("AWS_ENDPOINT_URL", link.url)
        yield link


async def test_a_writer_waits_for_a_server_that_was_away(way: WeakLink, s3: S3Server, database: str) -> None:
    store = await open_store(database, payloads=f"{s3.url}/away")
    shown = picture("shown")
    way.closed = True
    way.cut()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, group_that_sees(RUN, 0, shown))
        await anyio.sleep(0.3)
        assert await store.runs() == ()  # readers don't wait, and see nothing of it
        way.closed = False
    assert await store.file(shown.sha256) == shown.data
    await store.close()


async def test_a_writer_gives_up_and_another_one_goes_on(
    way: WeakLink, s3: S3Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, next_one = picture("shown"), picture("next")
    store = await open_store(database, payloads=f"{s3.url}/gone")
    await store.append(group_that_sees(RUN, 0, shown))
    with monkeypatch.context() as hurry:
        hurry.setattr(store._payloads, "_patience_s", 0.0)
        hurry.setattr(remote, "TIMEOUT_S", 1.0)
        way.closed = True
        way.cut()
        with pytest.raises(StoreError, match=r"can't be written to 's3://.*/gone': it does not answer .*run --resume"):
            await store.append(group_that_sees(NEXT, 0, next_one))
    way.closed = False
    assert [run.run_id for run in await store.runs()] == [RUN]
    await store.close()
    again = await open_store(database)
    await again.append(group_that_sees(NEXT, 0, next_one))
    assert [await again.file(each.sha256) for each in (shown, next_one)] == [shown.data, next_one.data]
    await again.close()


async def test_a_run_waits_while_its_payloads_cannot_be_written(
    way: WeakLink, s3: S3Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGE_BYTES", 0)  # whatever it records goes there
    job = Job(("envhub/arithmetic-v0",), groups=3, k=2)

    async def cut() -> None:
        while True:
            if len(keys_in(s3, "run/")) > 1:  # more than what was written to see whether it can be
                break
            await anyio.sleep(0.01)
        way.closed = True
        way.cut()
        await anyio.sleep(0.5)
        way.closed = False

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut)
        result = await play(job, Settings(database=database, payloads=f"{s3.url}/run", engine="scripted"))
    assert result.members.of(MemberState.ACKED) == result.members.submitted == 6
    store = await open_store(database, read_only=True)
    assert not (await verify(store)).findings
    await store.close()


def test_an_export_may_go_there(s3: S3Server, tmp_path: Path) -> None:
    with destination(f"{s3.url}/exports/rows.jsonl") as file:
        assert s3.client.get_object(Bucket=BUCKET, Key="exports/rows.jsonl")["Body"].read() == b""
        file.write_text("rows")
    assert s3.client.get_object(Bucket=BUCKET, Key="exports/rows.jsonl")["Body"].read() == b"rows"
    for nowhere, why in (
        ("s3://no-bucket/x", "can't write to 's3://no-bucket/x'"),
        ("no://x", "nothing can be in 'no:"),
    ):
        with pytest.raises(UsageError, match=why), destination(nowhere):
            raise AssertionError("it began")
    with destination(str(tmp_path / "rows.jsonl")) as file:
        assert file == tmp_path / "rows.jsonl"


def keys_in(s3: S3Server, prefix: str) -> set[str]:
    """The names of the objects below it."""
    found = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
    return {each["Key"].rpartition("/")[2] for each in found.get("Contents", ())}
