"""EnvironmentPool: instances of registered environments, leased.

Invariants:
- An instance that was made is closed exactly once, also when its holder fails or is cancelled.
- At most `max_live` instances of an id are alive; who waits longer than `wait_s` for one fails.
- Waiting can't deadlock: see Waits, which it shares with the sandbox pool.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from typing import TypeAlias, cast

import anyio

from envhub.contracts.environment import Environment
from envhub.contracts.ids import EnvironmentId
from envhub.contracts.quota import Quota
from envhub.contracts.rollout import EnvironmentRef
from envhub.contracts.waiting import NOBODY, Holder, Waits, Wish
from envhub.environments.grace import GivenUp, Grace
from envhub.environments.places import Places
from envhub.environments.requirements import check_requirements
from envhub.environments.tool_environment import ToolEnvironment
from envhub.errors import Boundary, Fault, boundary
from envhub.registry import EnvironmentSpec, environments

Waiting: TypeAlias = Callable[[], AbstractAsyncContextManager[None]]


class EnvironmentPool:
    """Makes an instance a lease and closes it at its end."""

    def __init__(
        self,
        *,
        wait_s: float = 300.0,
        close_s: float = 30.0,
        grace_s: float = 5.0,
        waits: Waits | None = None,
    ) -> None:
        self._wait_s = wait_s
        self._close_s = close_s
        self._grace = Grace(grace_s)
        self._waits = waits or Waits()
        self._places: dict[EnvironmentId, Places] = {}
        self._equipped: set[EnvironmentId] = set()  # found to have the packages that they require
        self.rationed = False  # a manager says how much of each max_live is here: none, until it does

    @property
    def quotas(self) -> dict[str, Quota]:
        """Of the environments that were asked for and have a max_live."""
        return {f"max_live of {id}": places.quota for id, places in self._places.items()}

    @asynccontextmanager
    async def lease(
        self, ref: EnvironmentRef, *, waiting: Waiting = nullcontext, holder: Holder = NOBODY
    ) -> AsyncIterator[Environment]:
        """An instance of its own for the holder. While it waits for a place it is within `waiting()`, so that it can
        lend what it holds to those who have one.

        Raises:
            UnknownName: no such environment.
            Fault: environment: it could not be made or closed, no place was free in time, or none ever would be; or
                this process lacks a package that it requires.
        """
        spec = environments.get(ref.id)
        if spec.requires and spec.id not in self._equipped:
            with boundary(Boundary.ENVIRONMENT):
                check_requirements(spec)
            self._equipped.add(spec.id)
        place = nullcontext() if spec.max_live is None else self._place(spec, spec.max_live, waiting, holder)
        async with place:
            with boundary(Boundary.ENVIRONMENT):
                environment = spec.factory(**ref.kwargs)
            ended_well = False
            try:
                yield environment
                ended_well = True
            finally:
                fault = await self._close(environment, spec.id)
                if fault is not None and ended_well:  # what ended the rollout before is the better reason
                    raise fault

    @asynccontextmanager
    async def _place(
        self, spec: EnvironmentSpec, max_live: int, waiting: Waiting, holder: Holder
    ) -> AsyncIterator[None]:
        places = self._places_of(spec.id, max_live)
        scope = anyio.CancelScope()
        wish = Wish(holder, {("environments", spec.id): places.quota}, scope.cancel)
        async with AsyncExitStack() as lease:
            if places.take_now():
                lease.enter_context(self._held(places, wish))
            else:
                async with waiting():
                    await self._acquire(places, spec, wish, scope)
                    lease.enter_context(self._held(places, wish))
            yield

    def _places_of(self, id: EnvironmentId, max_live: int) -> Places:
        if id not in self._places:
            places = self._places[id] = Places(max_live, self._waits.look)
            if self.rationed:
                places.quota.resize(0, final=False)
        return self._places[id]

    @contextmanager
    def _held(self, places: Places, wish: Wish) -> Iterator[None]:
        """Notes who holds a place that was acquired, and frees it at the end."""
        self._waits.hold(wish)
        self._waits.look()
        try:
            yield
        finally:
            self._waits.give_back(wish)
            places.give_back()

    async def _acquire(self, places: Places, spec: EnvironmentSpec, wish: Wish, scope: anyio.CancelScope) -> None:
        """Waits for a place, until the wish is refused or for too long."""
        self._waits.wait(wish)
        try:
            with anyio.fail_after(self._wait_s), scope:
                self._waits.look()
                await places.take()
        except TimeoutError:
            raise Fault(
                f"environment '{spec.id}' has max_live={spec.max_live} and none became free within {self._wait_s:g} s; "
                "raise max_live or run fewer rollouts at once",
                Boundary.ENVIRONMENT,
                retryable=True,
            ) from None
        finally:
            self._waits.leave(wish)
        if scope.cancelled_caught:
            raise Fault(
                f"environment '{spec.id}' has max_live={spec.max_live}, and the rollouts that hold its instances can't "
                "end before those that wait for one: a rollout and those it starts need one each; raise max_live",
                Boundary.ENVIRONMENT,
            )

    async def _close(self, environment: Environment, id: EnvironmentId) -> Fault | None:
        if not _holds(environment):
            return None
        closed = False

        async def close() -> None:
            nonlocal closed
            await _close(environment)
            closed = True

        try:
            with anyio.fail_after(self._close_s, shield=True):
                await self._grace.run(close)
        except TimeoutError:
            if closed:  # at once when it had its turn: the loop was late, not the environment
                return None
            return Fault(f"environment '{id}' did not close within {self._close_s:g} s", Boundary.ENVIRONMENT)
        except GivenUp as error:
            return Fault(f"environment '{id}' swallows cancellation when it closes: {error}", Boundary.ENVIRONMENT)
        except Fault as fault:
            return fault
        return None


def _holds(environment: Environment) -> bool:
    """Whether close() has anything to do: with its deadline and its task it takes 19 us."""
    close = type(environment).close
    if close is ToolEnvironment.close:
        return cast(ToolEnvironment, environment).holds
    return close is not Environment.close


async def _close(environment: Environment) -> None:
    with boundary(Boundary.ENVIRONMENT):
        await environment.close()
