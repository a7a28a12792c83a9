"""EnvironmentPool: instances of registered environments, leased.

Invariants:
- An instance that was made is closed exactly once, also when its holder fails or is cancelled.
- At most `max_live` instances of an id are alive; who waits longer than `wait_s` for one fails.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import TypeAlias

import anyio
from anyio import CancelScope, Semaphore

from envhub.contracts.environment import Environment
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.rollout import EnvironmentRef
from envhub.errors import Boundary, Fault, boundary
from envhub.registry import EnvironmentSpec, environments

Waiting: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class EnvironmentPool:
    """Makes an instance a lease and closes it at its end."""

    def __init__(self, *, wait_s: float = 300.0, close_s: float = 30.0) -> None:
        self._wait_s = wait_s
        self._close_s = close_s
        self._places: dict[EnvironmentId, Semaphore] = {}

    @asynccontextmanager
    async def lease(self, ref: EnvironmentRef, *, waiting: Waiting = nullcontext) -> AsyncIterator[Environment]:
        """An instance of its own for the holder. While it waits for a place it is within `waiting()`, so that it can
        lend what it holds to those who have one.

        Raises:
            UnknownName: no such environment.
            Fault: environment: it could not be made or closed, or no place was free in time.
        """
        spec = environments.get(ref.id)
        async with self._place(spec, waiting):
            with boundary(Boundary.ENVIRONMENT):
                environment = spec.factory(**ref.kwargs)
            async with self._closing(environment, spec.id):
                yield environment

    @asynccontextmanager
    async def _place(self, spec: EnvironmentSpec, waiting: Waiting) -> AsyncIterator[None]:
        if spec.max_live is None:
            yield
            return
        places = self._places.setdefault(spec.id, Semaphore(spec.max_live))
        async with AsyncExitStack() as held:
            try:
                places.acquire_nowait()
                held.callback(places.release)
            except anyio.WouldBlock:
                async with waiting():
                    await self._acquire(places, spec)
                    held.callback(places.release)
            yield

    async def _acquire(self, places: Semaphore, spec: EnvironmentSpec) -> None:
        try:
            with anyio.fail_after(self._wait_s):
                await places.acquire()
        except TimeoutError:
            raise Fault(
                f"environment '{spec.id}' has max_live={spec.max_live} and none became free within {self._wait_s:g} s; "
                "raise max_live or run fewer rollouts at once",
                Boundary.ENVIRONMENT,
                retryable=True,
            ) from None

    @asynccontextmanager
    async def _closing(self, environment: Environment, id: EnvironmentId) -> AsyncIterator[None]:
        ended_well = False
        try:
            yield
            ended_well = True
        finally:
            fault = await self._close(environment, id)
            if fault is not None and ended_well:  # what ended the rollout before is the better reason
                raise fault

    async def _close(self, environment: Environment, id: EnvironmentId) -> Fault | None:
        try:
            with CancelScope(shield=True), anyio.fail_after(self._close_s), boundary(Boundary.ENVIRONMENT):
                await environment.close()
        except TimeoutError:
            return Fault(f"environment '{id}' did not close within {self._close_s:g} s", Boundary.ENVIRONMENT)
        except Fault as fault:
            return fault
        return None
