"""A run belongs to one process at a time, on both kinds of databases."""

import fcntl
import os
import sys
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.store.sql_store import open_store
from envhub.store.sqlite import _held
from envhub.testing.store_suite import RUN
from tests.store.conftest import until_it_can_be_held

pytestmark = pytest.mark.anyio

HOLDER = """
import sys, anyio
from envhub.store.sql_store import open_store
from envhub.testing.store_suite import RUN

async def main(address):
    async with (await open_store(address)).hold(RUN):
        print("held", flush=True)
        await anyio.sleep_forever()

anyio.run(main, sys.argv[1])
"""


async def test_a_second_manager_is_refused_and_told_with_whom_it_collides(address: str) -> None:
    first, second = await open_store(address), await open_store(address)
    async with first.hold(RUN):
        with pytest.raises(UsageError, match=f"run 'sample' is still running, in .*process {os.getpid()}.*; end that"):
            async with second.hold(RUN):
                raise AssertionError("both hold it")
        async with second.hold(RunId("another")):
            pass
    async with second.hold(RUN):
        pass
    for store in (first, second):
        await store.close()


def test_a_lock_that_its_holder_removes_while_another_one_takes_it_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock = tmp_path / "run.lock", fcntl.flock

    def lock_after_the_other_left(file: TextIO, how: int) -> None:
        monkeypatch.setattr(fcntl, "flock", lock)
        path.unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", lock_after_the_other_left)
    with _held(path, RUN), pytest.raises(UsageError, match="is still running"), _held(path, RUN):
        raise AssertionError("both hold it")


async def test_a_process_that_was_killed_holds_its_run_no_longer(address: str) -> None:
    store = await open_store(address)
    async with await anyio.open_process([sys.executable, "-c", HOLDER, address]) as process:
        assert process.stdout is not None
        assert b"held" in await process.stdout.receive()
        with pytest.raises(UsageError, match=f"process {process.pid}"):
            async with store.hold(RUN):
                raise AssertionError("both hold it")
        process.kill()
    await until_it_can_be_held(store)
    await store.close()
