"""Updates: how new weights of a policy come into the engines that rollouts sample from.

pending -> what would be too old is cancelled -> calls cut, engines held -> the trainer transfers, or engines reload
-> every server shows its version -> live -> calls go on from the tokens that they have

Invariants: at most one update of a policy goes on; whatever happens in it, engines and calls are let go, by its
deadline at the latest; no version is announced that no engine has shown. Tensors never pass through here.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.events import Event, ServerMoved, VersionFailed, VersionPending
from envhub.contracts.ids import PolicyId, PolicyVersion, RunId
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import EngineFault, Fault, UnknownName, UpdateFailed, UsageError
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.steering import Hold, Join, Leave, Load, Release
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import Workers

logger = logging.getLogger(__name__)

UPDATER = "an update of its weights"  # who pauses
SERVER_SHARE = 0.8  # of an update's time that one server may take for the weights, lest it keeps the others from them
LET_GO_S = 30.0  # that engines have to generate again
MOVE_S = 600.0  # that a server has to take another policy's weights

Announce: TypeAlias = Callable[[PolicyId, PolicyVersion], Awaitable[None]]
CancelStale: TypeAlias = Callable[[PolicyId, PolicyVersion], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Update:
    """One update, from pending to its end."""

    policy_id: PolicyId
    version: PolicyVersion
    deadline_s: float
    stage: str = "cancelling what would be too old"
    pauses: bool = False
    held: anyio.Event = field(default_factory=anyio.Event)  # the engines hold still
    given: anyio.Event = field(default_factory=anyio.Event)  # the weights are there
    weights: str | None = None  # to be read by the engines; None: the trainer has put them in
    ended: anyio.Event = field(default_factory=anyio.Event)
    failure: str = ""

    def check(self) -> None:
        """
        Raises:
            UpdateFailed: it has failed.
        """
        if self.failure:
            raise UpdateFailed(f"version {self.version} of policy '{self.policy_id}' is not live: {self.failure}")


class Updates:
    """Open it with `open_updates`."""

    def __init__(
        self,
        run_id: RunId,
        workers: Workers,
        versions: Versions,
        recorder: Recorder,
        announce: Announce,
        cancel_stale: CancelStale,
        tasks: TaskGroup,
    ) -> None:
        self._run_id = run_id
        self._workers = workers
        self._versions = versions
        self._recorder = recorder
        self._announce = announce
        self._cancel_stale = cancel_stale
        self._tasks = tasks
        self._going_on: dict[PolicyId, Update] = {}
        self._weights: dict[PolicyId, str] = {}  # that were live last, where the engines read them
        self._lost: set[str] = set()  # servers that left one policy and did not come to the other
        self._moving = anyio.Lock()

    async def update(self, policy_id: PolicyId, version: PolicyVersion, weights: str, deadline_s: float) -> None:
        """As Control.update."""
        update = await self._begun(policy_id, version, deadline_s)
        if update is not None:
            if not update.given.is_set():
                update.weights = weights
                update.given.set()
            await update.ended.wait()
            update.check()

    async def begin(self, policy_id: PolicyId, version: PolicyVersion, deadline_s: float) -> None:
        """As Control.begin_update."""
        update = await self._begun(policy_id, version, deadline_s)
        if update is None:
            raise UsageError(f"version {version} of policy '{policy_id}' is live already")
        await update.held.wait()
        update.check()

    async def finish(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        """As Control.finish_update."""
        update = self._going_on.get(policy_id)
        if update is None or update.version != version:
            if self._versions.announced.get(policy_id) == version:
                return  # asked again: the first answer was lost
            raise UsageError(
                f"no update of policy '{policy_id}' to version {version} is going on: it was not begun, or it has "
                "failed since; begin it again"
            )
        update.given.set()
        await update.ended.wait()
        update.check()

    async def move(self, server: str, policy_id: PolicyId, weights: str) -> None:
        """As Control.move_server."""
        self._check(policy_id)
        async with self._moving:  # what is asked for may have been done by the one before
            servers = self._workers.servers
            known = {*self._lost, *(name for names in servers.values() for name in names)}
            if server not in known:
                raise UnknownName.of("engine server", server, known)
            if server not in servers[policy_id]:
                await self._move(server, policy_id, self._movable(server, policy_id, weights))

    async def let_go(self, policy_id: PolicyId) -> None:
        """Has engines generate that an earlier process may have held when it ended."""
        if policy_id in self._workers.servers:
            await self._steer_on(policy_id)

    async def _begun(self, policy_id: PolicyId, version: PolicyVersion, deadline_s: float) -> Update | None:
        """The update to that version, which goes on now; None where it is live already."""
        self._check(policy_id)
        if not deadline_s > 0:
            raise UsageError(f"an update has {deadline_s} s; they must be positive")
        async with self._moving:
            going_on = self._going_on.get(policy_id)
            if going_on is not None:
                if going_on.version != version:
                    raise UsageError(
                        f"policy '{policy_id}' is being updated to version {going_on.version}; version {version} can "
                        "come after that"
                    )
                return going_on
            if self._versions.announced.get(policy_id) == version:
                return None
            self._versions.check_newer(policy_id, version)
            update = self._going_on[policy_id] = Update(policy_id, version, deadline_s)
            self._tasks.start_soon(self._play, update)
            return update

    async def _play(self, update: Update) -> None:
        policy_id, version = update.policy_id, update.version
        await self._note(VersionPending(self._run_id, time.time(), policy_id, version))
        try:
            with anyio.fail_after(update.deadline_s):
                await self._bring_in(update)
            await self._announce(policy_id, version)
            if update.weights:
                self._weights[policy_id] = update.weights
        except TimeoutError:
            update.failure = f"it took longer than {update.deadline_s:g} s, while {update.stage}"
        except (Fault, UsageError) as error:  # the latter: a newer one was announced meanwhile
            update.failure = f"{update.stage} failed: {error}"
        except anyio.get_cancelled_exc_class():
            update.failure = "the run ended"
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await self._let_go(update)

    async def _bring_in(self, update: Update) -> None:
        await self._cancel_stale(update.policy_id, update.version)
        update.stage, update.pauses = "holding the engines", True
        await self._workers.pause(Scope(policy_id=update.policy_id), PauseMode.CUT, by=UPDATER)
        await self._workers.steer(update.policy_id, Hold())
        update.stage = "waiting for the trainer's weights"
        update.held.set()
        await update.given.wait()
        update.stage = "taking the weights"
        load = Load(update.weights, update.version, SERVER_SHARE * update.deadline_s)
        await self._workers.steer(update.policy_id, load)

    async def _let_go(self, update: Update) -> None:
        try:
            if update.failure:
                failed = VersionFailed(self._run_id, time.time(), update.policy_id, update.version, update.failure)
                await self._note(failed)
            await self._steer_on(update.policy_id)
            if update.pauses:
                await self._workers.resume(Scope(policy_id=update.policy_id), pinned=False, by=UPDATER)
        finally:
            del self._going_on[update.policy_id]
            update.held.set()
            update.ended.set()

    async def _steer_on(self, policy_id: PolicyId) -> None:
        """Has its engines generate again; those that can't are found by their checks."""
        try:
            with anyio.fail_after(LET_GO_S):
                await self._workers.steer(policy_id, Release())
        except (EngineFault, TimeoutError) as error:
            logger.warning("the engines of policy '%s' may not generate again: %s", policy_id, error)

    def _movable(self, server: str, policy_id: PolicyId, weights: str) -> str:
        """The weights that a server is to take which comes to that policy now.

        Raises:
            UsageError: it can't come.
        """
        weights = weights or self._weights.get(policy_id, "")
        if not weights:
            raise UsageError(f"no update of policy '{policy_id}' has named its weights; say which {server} is to take")
        if not self._workers.servers[policy_id]:
            raise UsageError(f"policy '{policy_id}' samples in this process, not from servers; none can be moved to it")
        if self._going_on:
            raise UsageError(f"policy '{next(iter(self._going_on))}' is being updated; move the server after that")
        return weights

    async def _move(self, server: str, policy_id: PolicyId, weights: str) -> None:
        version = self._versions.newest(policy_id)
        try:
            with anyio.fail_after(MOVE_S):
                await self._workers.steer(policy_id, Leave(server))
                self._lost.add(server)
                await self._workers.steer(policy_id, Join(server, weights, version))
                self._lost.remove(server)
        except TimeoutError:
            raise UpdateFailed(f"{server} did not take the weights of policy '{policy_id}' in {MOVE_S:g} s") from None
        except Fault as fault:
            raise UpdateFailed(f"{server} does not serve policy '{policy_id}': {fault}") from fault
        await self._note(ServerMoved(self._run_id, time.time(), server, policy_id, version))

    async def _note(self, event: Event) -> None:
        self._recorder.emit(event)
        await self._recorder.flush()

    def _check(self, policy_id: PolicyId) -> None:
        if policy_id not in self._workers.policies:
            raise UnknownName.of("policy", policy_id, self._workers.policies)
        if policy_id not in self._workers.servers:
            raise UsageError(
                f"the engine of policy '{policy_id}' takes no new weights while it runs; announce what it gets in "
                "another way, or use an engine that does (see docs/engines.md)"
            )


@asynccontextmanager
async def open_updates(
    run_id: RunId,
    workers: Workers,
    versions: Versions,
    recorder: Recorder,
    announce: Announce,
    cancel_stale: CancelStale,
) -> AsyncIterator[Updates]:
    """Updates of a run's policies; one that goes on at the end fails."""
    async with anyio.create_task_group() as tasks:
        try:
            yield Updates(run_id, workers, versions, recorder, announce, cancel_stale, tasks)
        finally:
            tasks.cancel_scope.cancel()
