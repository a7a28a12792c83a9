"""What all parts of the suite start from."""

from collections.abc import Awaitable, Callable

import pytest

from envhub.contracts.store import TraceStore


class Base:
    """An empty store, and how it is opened again."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    async def store(self) -> TraceStore:
        raise NotImplementedError("override the fixture `store`")

    @pytest.fixture
    def reopen(self) -> Callable[[], Awaitable[TraceStore]] | None:
        """Opens another store over the data of `store`, which is closed; None: it keeps nothing."""
        return None
