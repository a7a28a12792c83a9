"""What every TraceStore must hold to. Subclass StoreSuite and override its `store` fixture:

class TestMyStore(StoreSuite):
    @pytest.fixture
    async def store(self, tmp_path):
        store = await open_my_store(tmp_path / "traces.db")
        yield store
        await store.close()
"""

from envhub.testing.store_suite.browsing import Browsing
from envhub.testing.store_suite.life import Life
from envhub.testing.store_suite.log import Log
from envhub.testing.store_suite.members import Members
from envhub.testing.store_suite.pages import Pages
from envhub.testing.store_suite.tools import RUN

__all__ = ["RUN", "BrowsableStoreSuite", "StoreSuite"]


class StoreSuite(Log, Members, Pages, Life):
    """Override `store`, an async fixture with an empty store; and `reopen` where the store outlives its closing."""


class BrowsableStoreSuite(StoreSuite, Browsing):
    """The same, for a store that people look into."""
