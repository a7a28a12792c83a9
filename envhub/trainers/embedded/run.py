"""EmbeddedRun: an embedded run on a loop and a thread of its own, for trainers with a loop of their own or none.

Invariants: neither loop ever blocks on the other; a process that forgot to close its run ends all the same, and the run
with it.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from threading import Thread
from typing import TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from envhub.app import LOOP, PlayedGroup, Runner, embedded
from envhub.app.settings import Settings
from envhub.contracts.engine import Model
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.rollout import GroupRequest
from envhub.errors import Boundary, Fault, UsageError, boundary
from envhub.feed.codec import TrainerGroup
from envhub.rollouts.job import Job
from envhub.trainers.pull.samples import samples

END_S = 60.0  # for what still runs to end, where the run is closed

T = TypeVar("T")


class EmbeddedRun:
    """Plays groups for callers on any thread.

    Raises:
        UsageError: what the job or the settings ask for can't be had.
    """

    def __init__(self, model: Model, job: Job, settings: Settings) -> None:
        opened: Future[tuple[BlockingPortal, Runner]] = Future()
        thread = Thread(target=_live, args=(opened, model, job, settings), name="envhub-run", daemon=True)
        thread.start()
        self._portal, self._runner = opened.result()
        self._end = weakref.finalize(self, _end, self._portal, thread)  # also where the process ends

    def play(self, requests: Iterable[GroupRequest]) -> list[PlayedGroup]:
        """The groups in order, once all have ended. Blocks; interrupted, it ends them.

        Raises:
            UsageError: a request that can't work, or the run is closed.
        """
        futures = [self._start(self._runner.play, request) for request in requests]
        try:
            return [future.result() for future in futures]
        finally:
            for future in futures:
                future.cancel()

    async def played(self, requests: Iterable[GroupRequest]) -> list[PlayedGroup]:
        """The same for a coroutine of the trainer's loop; cancelled, it ends the groups.

        Raises:
            UsageError: a request that can't work, or the run is closed.
        """
        futures = [asyncio.wrap_future(self._start(self._runner.play, request)) for request in requests]
        try:
            return [await future for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def announce(self, version: PolicyVersion) -> None:
        """The newest version of the policy under training.

        Raises:
            UsageError: it is older than the newest, or the run is closed.
        """
        self.call(self._runner.announce, version)

    def call(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """What a coroutine function returns on the run's loop. Blocks.

        Raises:
            UsageError: the run is closed.
        """
        return self._start(function, *arguments).result()

    def close(self) -> None:
        """Ends what runs. Idempotent."""
        self._end()

    def _start(self, function: Callable[..., Awaitable[T]], *arguments: object) -> Future[T]:
        if not self._end.alive:
            raise UsageError("the embedded run is closed; open another one")
        try:
            return self._portal.start_task_soon(function, *arguments)
        except RuntimeError as error:  # the portal's: its loop is gone
            raise Fault("the embedded run has failed; the traceback of its thread says why") from error


def _live(opened: "Future[tuple[BlockingPortal, Runner]]", model: Model, job: Job, settings: Settings) -> None:
    """What the thread does: how far it got, or why it did not get so far, is in `opened`."""
    try:
        with boundary(Boundary.OPERATOR):
            try:
                anyio.run(_serve, opened, model, job, settings, backend_options=LOOP)
            except UsageError as error:
                opened.set_exception(error)
    except Fault as fault:
        if opened.done():
            raise
        opened.set_exception(fault)


async def _serve(opened: "Future[tuple[BlockingPortal, Runner]]", model: Model, job: Job, settings: Settings) -> None:
    async with embedded(model, job, settings) as runner, BlockingPortal() as portal:
        opened.set_result((portal, runner))
        await portal.sleep_until_stopped()


def _end(portal: BlockingPortal, thread: Thread) -> None:
    with suppress(RuntimeError):  # it has failed before
        portal.start_task_soon(portal.stop, True)
    thread.join(END_S)


def scored(played: PlayedGroup) -> TrainerGroup:
    """The group, in which something can be trained on.

    Raises:
        Fault: nothing can: all its members failed, say.
    """
    group = played.group
    if samples(group):
        return group
    failure = next(iter(played.failures.values()), None)
    if failure:
        why, whose = f"{failure.boundary}: {failure.message}", failure.boundary
    else:
        why, whose = f"truncated by {group.members[0].truncated_by or 'nothing'}, before a token trains", Boundary.AGENT
    raise Fault(f"nothing trains in group '{group.group_id}', task '{group.task_id}' ({why})", whose)
