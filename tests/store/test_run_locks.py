"""A run belongs to one process at a time, on both kinds of databases."""

import os
import sys

import anyio
import pytest

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.store.sql_store import open_store
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
