"""A store whose large payloads are elsewhere is the same store, and loses none of them."""

import errno
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest
from fsspec.registry import _registry

from envhub.contracts.ids import RunId
from envhub.contracts.store import RolloutQuery
from envhub.errors import StoreError, UsageError
from envhub.store.codec import encode
from envhub.store.opening import opening
from envhub.store.payloads import packing
from envhub.store.payloads.local import LocalObjects
from envhub.store.payloads.payloads import Payloads
from envhub.store.payloads.place import open_payloads
from envhub.store.sql_store import SqlTraceStore, open_store
from envhub.testing.store_suite import BrowsableStoreSuite
from envhub.testing.traces import SampleRun, sample_turn
from tests.store.seeing import files_in, group_that_sees, names_in, picture

pytestmark = pytest.mark.anyio

RUN = RunId("seeing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "payloads"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "traces.db")


@pytest.fixture
def place(address: str, tmp_path: Path) -> str:
    """Where payloads may be: a file system of fsspec's for a file, a folder for a database."""
    return str(tmp_path / "payloads") if address.startswith("postgresql") else f"memory://{tmp_path.name}"


class TestStoreWithEveryPayloadElsewhere(BrowsableStoreSuite):
    @pytest.fixture
    async def store(self, address, place, monkeypatch):
        monkeypatch.setattr(packing, "LARGE_BYTES", 0)
        store = await open_store(address, payloads=place)
        yield store
        await store.close()

    @pytest.fixture
    def reopen(self, address):
        return partial(open_store, address)


async def test_only_what_is_large_is_put_elsewhere(database: str, folder: Path) -> None:
    store = await open_store(database, payloads=str(folder))
    small, large = picture("small", 1_000), picture("large")
    *begin, end, closed, acked = group_that_sees(RUN, 0, small, large)
    long = SampleRun(RUN).turn(begin[2], sample_turn(1, output=50_000))
    await store.append([*begin, long, end, closed, acked])
    assert names_in(folder) == {large.sha256, sha256(encode(long)).hexdigest()}
    assert [await store.file(shown.sha256) for shown in (small, large)] == [small.data, large.data]
    assert (await store.events_of(RUN, [end.rollout_id]))[2].turn.output_ids.tolist() == long.turn.output_ids.tolist()
    await store.close()


@dataclass(slots=True)
class Fragile:
    """Objects that fail as they are told, once each time."""

    inner: LocalObjects
    failures: list[OSError] = field(default_factory=list)
    puts: list[str] = field(default_factory=list)

    def put(self, name: str, data: bytes) -> None:
        self.puts.append(name)
        if self.failures:
            raise self.failures.pop(0)
        self.inner.put(name, data)

    def __getattr__(self, name: str) -> Callable:
        return getattr(self.inner, name)


@pytest.fixture
async def fragile(database: str, folder: Path) -> Iterator[tuple[SqlTraceStore, Fragile]]:
    """A store and what its payloads are in."""
    async with opening(database, read_only=False) as opened:
        payloads = await open_payloads(opened, str(folder), read_only=False)
        objects = Fragile(payloads.objects)
        payloads = Payloads(objects, payloads.url, payloads.folder, patience_s=0.2)
        store = SqlTraceStore(opened, payloads)
        yield store, objects
        await store.close()


async def test_what_two_runs_show_is_put_once(fragile: tuple[SqlTraceStore, Fragile]) -> None:
    store, objects = fragile
    shown = picture("shown")
    for run_id in ("one", "two"):
        await store.append(group_that_sees(RunId(run_id), 0, shown))
    assert objects.puts == [shown.sha256]


async def test_a_place_that_fails_for_a_while_is_tried_again(fragile: tuple[SqlTraceStore, Fragile]) -> None:
    store, objects = fragile
    objects.failures = [ConnectionResetError("reset"), TimeoutError("slow")]
    shown = picture("shown")
    await store.append(group_that_sees(RUN, 0, shown))
    assert await store.file(shown.sha256) == shown.data
    assert objects.puts == [shown.sha256] * 3


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConnectionRefusedError("refused"), "it does not answer .*refused.* --resume"),
        (OSError(errno.ENOSPC, "full"), "its disk is full: make room, then go on with the run"),
        (OSError(errno.EDQUOT, "quota"), "its quota is used up: make room"),
        (PermissionError("403"), "it does not let us .*403.*; check the credentials in the environment"),
        (FileNotFoundError("no bucket"), "it is not there .*no bucket.*; make the bucket or folder"),
    ],
)
async def test_no_event_is_durable_without_its_payload(
    fragile: tuple[SqlTraceStore, Fragile], error: OSError, why: str
) -> None:
    store, objects = fragile
    objects.failures = [error] * 100
    shown = picture("shown")
    with pytest.raises(StoreError, match=f"payload {shown.sha256} can't be written to '.*payloads': {why}"):
        await store.append(group_that_sees(RUN, 0, shown))
    assert await store.runs() == ()
    objects.failures = []
    await store.append(group_that_sees(RUN, 0, shown))  # as who goes on with it
    assert await store.file(shown.sha256) == shown.data


async def test_a_payload_that_is_damaged_or_gone_is_named(database: str, folder: Path) -> None:
    store = await open_store(database, payloads=str(folder))
    shown = picture("shown")
    await store.append(group_that_sees(RUN, 0, shown))
    (file,) = (file for file in files_in(folder) if file.name == shown.sha256)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StoreError, match=f"payload {shown.sha256} in '.*' is damaged: its 1000 bytes"):
        await store.file(shown.sha256)
    file.unlink()
    with pytest.raises(StoreError, match=f"payload {shown.sha256} can't be read .* bring back what was in it"):
        await store.file(shown.sha256)
    assert (await store.rollouts(RolloutQuery())).total == 1  # lists need none
    await store.close()


# Puts object after object, and says which are whole.
WRITER = """
import sys
from pathlib import Path
from envhub.store.payloads.local import LocalObjects
objects = LocalObjects(Path(sys.argv[1]))
for number in range(1_000_000):
    name = f"{number % 256:02x}{number}"
    objects.put(name, name.encode() * 500_000)
    print(name, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_objects_only(tmp_path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    whole = [writer.stdout.readline().strip() for _ in range(5)]
    writer.send_signal(signal.SIGKILL)
    whole += writer.communicate()[0].split()
    objects = LocalObjects(tmp_path)
    for name in whole:
        assert objects.get(name) == name.encode() * 500_000
    there = {found.name: found.size_bytes for shard in range(256) for found in objects.shard(f"{shard:02x}")}
    assert set(whole) <= there.keys()  # and one more at most, that nobody heard of
    assert all(size == 500_000 * len(name) for name, size in there.items())


async def test_the_database_knows_where_its_payloads_are(database: str, folder: Path) -> None:
    await (await open_store(database, payloads=f"file://{folder}")).close()
    for again in ("", str(folder)):
        store = await open_store(database, payloads=again)
        shown = picture(f"shown{again}")
        await store.append(group_that_sees(RunId(f"run{again}"), 0, shown))
        assert shown.sha256 in names_in(folder)
        await store.close()
    with pytest.raises(UsageError, match=f"the payloads of '.*' are in '{folder}', not in '/elsewhere'; .*store move"):
        await open_store(database, payloads="/elsewhere")


@pytest.mark.parametrize(
    ("url", "error", "why"),
    [
        ("sftp://ana:secret@host/folder", UsageError, "holds a password, .* put it where"),
        ("nonsense://bucket", UsageError, "nothing can be in 'nonsense://bucket': .*name a folder, or a URL"),
        ("/no/such/folder", StoreError, "payloads can't be in '/no/such/folder': .*name a folder that can be written"),
        ("/dev/null/x", StoreError, "payloads can't be in '/dev/null/x': .*name a folder that can be written"),
    ],
)
async def test_a_place_that_cannot_be_is_refused(database: str, url: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why) as caught:
        await open_store(database, payloads=url)
    assert "secret" not in str(caught.value)


async def test_a_library_that_is_not_installed_is_named(database: str, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)  # a test before may have found it
    with pytest.raises(UsageError, match=r"'s3://bucket' needs a library that is not here: .*s3fs"):
        await open_store(database, payloads="s3://bucket")
