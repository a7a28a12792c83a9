"""Outlet: where the manager hands closed groups. Without a feed that is the run's own output, which consumes them."""

import time
from collections.abc import Callable
from typing import Protocol

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.events import GroupAcked
from envhub.contracts.ids import GroupId, RunId
from envhub.rollouts.leases import NO_LEASE
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.stored_group import StoredGroup


class Outlet(Protocol):
    """What the manager hands closed groups to. It waits where it is full."""

    async def put(self, group: ClosedGroup) -> None:
        """Takes a group that has just closed; all of it is durable."""

    async def put_stored(self, group: StoredGroup) -> None:
        """Takes one that an earlier process closed."""

    def close(self) -> None:
        """No group comes any more."""


class OwnConsumer:
    """Without a feed the run's output is the consumer: a closed group is acked at once."""

    def __init__(self, recorder: Recorder, *, clock: Callable[[], float] = time.time) -> None:
        self._recorder = recorder
        self._clock = clock

    async def put(self, group: ClosedGroup) -> None:
        await self._ack(group.run_id, group.group_id)

    async def put_stored(self, group: StoredGroup) -> None:
        await self._ack(group.run_id, group.group_id)

    def close(self) -> None:
        """Nothing is held back."""

    async def _ack(self, run_id: RunId, group_id: GroupId) -> None:
        self._recorder.emit(GroupAcked(run_id, self._clock(), group_id, NO_LEASE))
        await self._recorder.flush()
