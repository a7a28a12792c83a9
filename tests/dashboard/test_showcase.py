"""The showcase, which the pages are tested and shown with: as sound as a run that was played."""

import time

import pytest

from envhub.monitor.verify import verify
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.showcase import Showcase, record

pytestmark = pytest.mark.anyio


async def test_verify_finds_nothing_wrong_with_the_showcase() -> None:
    store = MemoryTraceStore()
    await record(store, Showcase(now=time.time(), rollouts=800, long_tokens=20_000))
    report = await verify(store)
    assert report.ok, report.findings[:5]
    assert report.sampled_tokens > 20_000
