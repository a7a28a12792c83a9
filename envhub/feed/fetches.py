"""Fetches: so many groups for one step of a trainer that works in steps.

Invariant: asked again under one key, a consumer gets those of the same groups whose leases live, and others only in
place of those that it never had.
"""

from dataclasses import dataclass, field

import anyio

from envhub.contracts.delivery import Deliveries, Delivery
from envhub.errors import LeaseLost, UsageError
from envhub.feed.allowance import MAX_CREDIT
from envhub.feed.v1 import feed_pb2 as pb

MAX_WAIT_S = 3600.0


@dataclass(slots=True, eq=False)
class _Step:
    """What a consumer has fetched under one key."""

    key: str
    taken: list[Delivery] = field(default_factory=list)
    over: bool = False  # the run is drained, or waits for what its consumers hold
    fetching: anyio.Lock = field(default_factory=anyio.Lock)


class Fetches:
    """Those of a feed's consumers. The last step of each is remembered."""

    def __init__(self, deliveries: Deliveries) -> None:
        self._deliveries = deliveries
        self._steps: dict[str, _Step] = {}

    async def take(self, consumer: str, asked: pb.FetchRequest) -> tuple[list[Delivery], bool]:
        """The groups, leased, and whether no more will come. A call that is cancelled leaves what it has to the next
        one under its key.

        Raises:
            UsageError: no or too many groups, no key, or a time out of its range.
        """
        _check(asked)
        step = self._steps.get(consumer)
        if step is None or step.key != asked.key:
            step = self._steps[consumer] = _Step(asked.key)
        async with step.fetching:
            step.taken = [delivery for delivery in step.taken if await self._lives(delivery)]
            with anyio.move_on_after(asked.wait_s):
                while len(step.taken) < asked.groups and not step.over:
                    delivery = await self._deliveries.lease(consumer)
                    step.over = delivery is None
                    step.taken += [delivery] if delivery else []
            return list(step.taken), step.over

    async def _lives(self, delivery: Delivery) -> bool:
        try:
            await self._deliveries.extend(delivery.lease_id)
        except LeaseLost:
            return False
        return True


def _check(asked: pb.FetchRequest) -> None:
    if not 1 <= asked.groups <= MAX_CREDIT:
        raise UsageError(f"{asked.groups} groups are fetched; it must be 1 to {MAX_CREDIT}")
    if not asked.key:
        raise UsageError("a fetch has no key; give each step one of its own, so that it can be asked again")
    if not 0.0 <= asked.wait_s <= MAX_WAIT_S:
        raise UsageError(f"a fetch waits {asked.wait_s} s; it must be 0 to {MAX_WAIT_S:g}")
