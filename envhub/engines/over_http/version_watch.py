"""VersionWatch: the version of a server's weights, asked once for all generations that want to know it."""

from collections.abc import Awaitable, Callable

import anyio

from envhub.contracts.ids import PolicyVersion


class VersionWatch:
    """`ask` brings the server's answer."""

    def __init__(self, ask: Callable[[], Awaitable[PolicyVersion]]) -> None:
        self._ask = ask
        self._asking = anyio.Lock(fast_acquire=True)
        self._asked_at = -1.0
        self._answer: PolicyVersion | None = None

    async def known(self) -> PolicyVersion:
        """Of some moment before now."""
        return await self.after(-1.0) if self._answer is None else self._answer

    async def after(self, moment: float) -> PolicyVersion:
        """Of a moment at or after `moment`, on the clock of anyio."""
        if self._answer is None or self._asked_at < moment:
            async with self._asking:
                return await self._asked_after(moment)
        return self._answer

    async def _asked_after(self, moment: float) -> PolicyVersion:
        """The same, where only one asks."""
        if self._answer is None or self._asked_at < moment:
            asked_at = anyio.current_time()
            self._answer = await self._ask()
            self._asked_at = asked_at
        return self._answer
