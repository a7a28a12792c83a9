"""Sandboxes of a simulation: they take time to be made, fail to be at times, and die at times, all by a seed."""

from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from random import Random

import anyio

from envhub.contracts.sandbox import SandboxSpec, Snapshot
from envhub.errors import SandboxFault
from envhub.testing.fake_sandbox import FakeBackend, FakeSandbox
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool

MAKE_S = 2.0  # at most
WAIT_S = 300.0
TTL_S = 2_000.0


class FragileBackend(FakeBackend):
    """`death` is the share of calls at which a sandbox dies, and of sandboxes that can't be made."""

    def __init__(self, seed: int, death: float) -> None:
        self._random = Random(f"sandboxes {seed}")
        self._death = death
        super().__init__(dies=self._strikes)

    async def create(self, spec: SandboxSpec, *, files: Snapshot | None = None) -> FakeSandbox:
        await anyio.sleep(self._random.uniform(0.0, MAKE_S))
        if self._strikes():
            raise SandboxFault("the back end is overloaded")
        return await super().create(spec, files=files)

    def pool(self, places: int) -> AbstractAsyncContextManager[Pool]:
        """A pool of so many places, some of them warm, on the loop's clock."""
        limits = PoolLimits(places, wait_s=WAIT_S, ttl_s=TTL_S)
        return open_pool(self, limits, warm_each=places // 2, clock=anyio.current_time)

    def left(self) -> Iterator[str]:
        """What did not end, or ended twice, in words."""
        for made in self.made:
            if made.closed != 1:
                yield f"{made.id} was closed {made.closed} times"
        for snapshot in self.snapshots:
            if snapshot.closed != 1:
                yield f"a snapshot was closed {snapshot.closed} times"

    def _strikes(self) -> bool:
        return self._random.random() < self._death
