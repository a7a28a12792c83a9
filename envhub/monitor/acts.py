"""Acts: who steered a run by hand, over which door, and what came of it, put into the run's log."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from envhub.contracts.access import Caller, Role
from envhub.contracts.events import OperatorActed
from envhub.contracts.guard import Guard, Throttle
from envhub.contracts.ids import RunId
from envhub.contracts.messages import JsonObject
from envhub.errors import EnvhubError, RateExceeded

THIS_MACHINE = Caller(Role.OPERATOR, "this machine")  # who sends the process a signal
REFUSALS_PER_S = 1.0  # of callers that were turned away: strangers may not fill a log

Record: TypeAlias = Callable[[OperatorActed], Awaitable[None]]  # durable once it returns


async def nowhere(act: OperatorActed) -> None:
    """A Record of what is no run's."""


class Acts:
    """Those of one run. Each is durable before its caller is answered."""

    def __init__(
        self,
        run_id: RunId,
        record: Record,
        guard: Guard,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run_id = run_id
        self._record = record
        self._guard = guard
        self._now = now
        self._refusals = Throttle(REFUSALS_PER_S, clock)

    @asynccontextmanager
    async def acting(self, caller: Caller, via: str, action: str, detail: JsonObject) -> AsyncIterator[None]:
        """Records that what is within was done, or why it was not.

        Raises:
            RateExceeded: the caller acts too often; nothing was done.
        """
        try:
            self._guard.spend("control", caller)
        except RateExceeded as error:
            await self.turned_away(caller, via, action, str(error))
            raise
        try:
            yield
        except EnvhubError as error:
            await self.record(caller, via, action, detail, refused=str(error))
            raise
        await self.record(caller, via, action, detail)

    async def record(self, caller: Caller, via: str, action: str, detail: JsonObject, refused: str = "") -> None:
        """Records one act."""
        role = caller.role or ""
        await self._record(
            OperatorActed(self._run_id, self._now(), caller.who, action, detail, refused, role, caller.address, via)
        )

    async def turned_away(self, caller: Caller, via: str, action: str, why: str) -> None:
        """Records that somebody may not; of very many, some."""
        if not self._refusals.take(""):
            await self.record(caller, via, action, {}, refused=why)
