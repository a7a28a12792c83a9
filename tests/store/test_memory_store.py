"""The memory store passes the suite."""

import pytest

from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.store_suite import BrowsableStoreSuite


class TestMemoryTraceStore(BrowsableStoreSuite):
    @pytest.fixture
    async def store(self):
        return MemoryTraceStore()
