"""The memory store passes the suite."""

import pytest

from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.store_suite import StoreSuite


class TestMemoryTraceStore(StoreSuite):
    @pytest.fixture
    async def store(self):
        return MemoryTraceStore()
