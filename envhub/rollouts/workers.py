"""Workers: where the tries of members run. A rollout and all below it run in one worker."""

from collections.abc import Callable, Collection, Mapping
from traceback import clear_frames
from typing import Protocol

import anyio

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, PolicyVersion
from envhub.contracts.outcome import Failure, Outcome
from envhub.contracts.pause import PauseMode, Scope
from envhub.rollouts.admission import Claim
from envhub.rollouts.case import Case
from envhub.rollouts.episode import run_member
from envhub.rollouts.group_judging import run_judging
from envhub.rollouts.pause import OPERATOR
from envhub.rollouts.platform import Platform
from envhub.rollouts.replay import Records
from envhub.rollouts.steering import Order, Steering


class Workers(Protocol):
    """What the manager hands tries to."""

    @property
    def policies(self) -> Collection[PolicyId]:
        """Those that rollouts can name."""

    async def run(
        self,
        start: RolloutStarted,
        tries_again: Callable[[Failure], bool],
        earlier: Records | None,
        standing: Claim,
        case: Case | None = None,
    ) -> Outcome:
        """Runs one try of a member, or of the judging of a group with that case, and returns how it ended, after its
        last event was emitted. `tries_again` says of a failure whether another try follows; `earlier` is what another
        process recorded of it, `standing` its place in line. Cancelled, it returns once the try does nothing any more.

        Raises:
            UsageError: the workers can't run it, as they are.
        """

    @property
    def servers(self) -> Mapping[PolicyId, Collection[str]]:
        """As Steering has them."""

    async def pause(self, scope: Scope, mode: PauseMode, *, by: str = OPERATOR) -> None:
        """
        Raises:
            UsageError: that scope is paused.
        """

    async def resume(self, scope: Scope, *, pinned: bool, by: str = OPERATOR) -> None:
        """
        Raises:
            UsageError: that scope is not paused.
        """

    async def abort(self, scope: Scope) -> None:
        """Ends rollouts now."""

    async def steer(self, policy_id: PolicyId, order: Order) -> None:
        """Has the engine of that policy do it, everywhere.

        Raises:
            EngineFault: it could not be done.
        """

    def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """The newest version: what judges are told from now on."""

    @property
    def max_running(self) -> int | None:
        """How many rollouts act at once; None where that can't be changed."""

    async def limit(self, max_running: int) -> None:
        """
        Raises:
            UsageError: it can't be changed.
        """


class LocalWorker:
    """This process and its loop."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self.steering = Steering(platform.policies)

    @property
    def policies(self) -> Collection[PolicyId]:
        return self._platform.policies.keys()

    async def run(
        self,
        start: RolloutStarted,
        tries_again: Callable[[Failure], bool],
        earlier: Records | None,
        standing: Claim,
        case: Case | None = None,
    ) -> Outcome:
        try:
            if case is not None:
                return await run_judging(start, case, self._platform, tries_again, earlier, standing)
            return await run_member(start, self._platform, tries_again, earlier, standing)
        except anyio.get_cancelled_exc_class() as error:
            # A task group keeps the error in a cycle, and with it all that the frames of the rollout hold.
            clear_frames(error.__traceback__)
            raise

    @property
    def servers(self) -> Mapping[PolicyId, Collection[str]]:
        return self.steering.servers

    async def pause(self, scope: Scope, mode: PauseMode, *, by: str = OPERATOR) -> None:
        self._platform.pauses.pause(scope, mode, by=by)

    async def resume(self, scope: Scope, *, pinned: bool, by: str = OPERATOR) -> None:
        self._platform.pauses.resume(scope, pinned=pinned, by=by)

    async def abort(self, scope: Scope) -> None:
        self._platform.pauses.abort(scope)

    async def steer(self, policy_id: PolicyId, order: Order) -> None:
        await self.steering.obey(policy_id, order, first=True)

    def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        self._platform.versions[policy_id] = version

    @property
    def max_running(self) -> int:
        return self._platform.slots.limit

    async def limit(self, max_running: int) -> None:
        self._platform.slots.resize(max_running)
