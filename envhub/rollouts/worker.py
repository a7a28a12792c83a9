"""A worker process: runs the tries that its manager sends, and reports every event of theirs.

`python -m envhub.rollouts.worker FD PARENT RELEASE` is one, whose manager, of that release of envhub, is at the other
end of that socket. It ends with the process that started it, however that ends.
"""

import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from importlib.util import find_spec
from typing import TypeAlias

import anyio
from anyio.abc import TaskGroup, UNIXSocketStream

from envhub.contracts import clocks
from envhub.contracts.events import Event, RolloutStarted
from envhub.contracts.ids import PolicyId, RolloutId
from envhub.errors import Boundary, Fault, UsageError, boundary, leaves
from envhub.registry import agents, context_strategy, environments, judges
from envhub.rollouts import wire
from envhub.rollouts.admission import Claim, Withdrawn
from envhub.rollouts.case import Case, judge_of
from envhub.rollouts.episode import no_more
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.journal import Journal
from envhub.rollouts.platform import Platform
from envhub.rollouts.recorder import Recording
from envhub.rollouts.replay import Records
from envhub.rollouts.usages import LOOK_S, Usages
from envhub.rollouts.workers import LocalWorker

logger = logging.getLogger(__name__)

BEAT_S = 1.0
WAY_OUT = "name the module that registers it with --load, or in Settings.modules: each worker process imports it"
PR_SET_PDEATHSIG = 1  # prctl(2)

Link: TypeAlias = wire.Link[wire.ToWorker]
# Made from settings in a form of its own.
PlatformFactory: TypeAlias = Callable[[bytes, Recording], AbstractAsyncContextManager[Platform]]


class Outbox:
    """The recorder of a worker: its manager records what is emitted, in that order."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._emitted = 0
        self._asked = 0
        self._durable = 0
        self._confirmed = anyio.Event()

    def emit(self, event: Event) -> None:
        self._link.send(wire.Recorded.of(event))
        self._emitted += 1

    async def flush(self) -> None:
        """Waits until everything emitted so far is durable."""
        target = self._emitted
        if self._asked < target:
            self._asked = target
            self._link.send(wire.Ask(target))
        while self._durable < target:
            await self._confirmed.wait()

    def confirm(self, count: int) -> None:
        """So many are durable."""
        self._durable = count
        self._confirmed.set()
        self._confirmed = anyio.Event()


class Worker:
    """Does what its manager says."""

    def __init__(self, link: Link, outbox: Outbox, platform: Platform, tasks: TaskGroup) -> None:
        self._link = link
        self._outbox = outbox
        self._platform = platform
        self._tasks = tasks
        self._local = LocalWorker(platform)
        self._usages = Usages(platform, link.send)
        self._tries: dict[RolloutId, anyio.CancelScope] = {}
        self._standing: dict[RolloutId, Claim] = {}  # of them
        self._steering: dict[int, anyio.Event] = {}  # orders that are being done, by number

    def obey(self, message: wire.ToWorker) -> None:
        """Never waits: messages come in order, and none holds up the next."""
        pauses = self._platform.pauses
        match message:
            case wire.Start():
                self._begin(message)
            case wire.Cancel(rollout_id) if rollout_id in self._tries:  # else it is over
                self._tries[rollout_id].cancel()
            case wire.Recall(rollout_ids):
                for standing in filter(None, map(self._standing.get, rollout_ids)):
                    self._platform.slots.withdraw(standing)
            case wire.Pause(scope, mode, by):
                pauses.pause(scope, mode, by=by)
            case wire.Resume(scope, pinned, by):
                pauses.resume(scope, pinned=pinned, by=by)
            case wire.Abort(scope):
                pauses.abort(scope)
            case wire.Announce(policy_id, version):
                self._platform.versions[policy_id] = version
            case wire.Steer():
                self._steering[message.number] = anyio.Event()
                self._tasks.start_soon(self._steer, message)
            case wire.Allot():
                self._usages.obey(message)
            case wire.Ask(number):
                self._link.send(wire.Answer(number))
            case wire.Answer(count):
                self._outbox.confirm(count)

    def open(self) -> None:
        """Says that it takes tries."""
        self._link.send(wire.Opened(self.servers, self._usages.begin()))

    @property
    def servers(self) -> dict[PolicyId, tuple[str, ...]]:
        return self._local.steering.servers

    async def beat(self) -> None:
        """Tells the manager now and then that this loop runs."""
        while True:
            await anyio.sleep(BEAT_S)
            self._usages.look(closely=True)
            self._link.send(wire.Beat())

    async def look(self) -> None:
        """Tells the manager soon where something is lacking."""
        while True:
            await anyio.sleep(LOOK_S)
            self._usages.look(closely=False)

    def _begin(self, message: wire.Start) -> None:
        start = message.start.event
        assert isinstance(start, RolloutStarted)
        try:
            check_known(start, message.case)
        except UsageError as error:
            self._link.send(wire.Unable(start.rollout_id, f"can't run it: {error}"))
            return
        scope = self._tries[start.rollout_id] = anyio.CancelScope()
        self._standing[start.rollout_id] = message.standing
        self._tasks.start_soon(self._run, start, message, scope)

    async def _run(self, start: RolloutStarted, message: wire.Start, scope: anyio.CancelScope) -> None:
        end: wire.ToManager = wire.Over(start.rollout_id)
        with scope:
            for steered in list(self._steering.values()):
                await steered.wait()
            # What becomes of a failure its manager decides, who has the group.
            records = earlier(start, message.history)
            try:
                await self._local.run(start, no_more, records, message.standing, message.case)
            except Withdrawn:
                end = wire.Returned(start.rollout_id)
        del self._tries[start.rollout_id], self._standing[start.rollout_id]
        self._link.send(end)

    async def _steer(self, message: wire.Steer) -> None:
        fault = ""
        try:
            await self._local.steering.obey(message.policy_id, message.order, first=message.first)
        except Fault as error:
            fault = str(error)
            logger.warning("the engine of policy '%s' did not do what it was to do: %s", message.policy_id, fault)
        self._link.send(wire.Steered(message.number, fault, self.servers))
        self._steering.pop(message.number).set()


def earlier(start: RolloutStarted, history: list[wire.Recorded]) -> Records | None:
    """What another process recorded of that rollout; None where it had not begun."""
    journal = Journal()
    for recorded in history:
        journal.take(recorded.event)
    return journal.live.get(start.rollout_id)


def check_known(start: RolloutStarted, case: Case | None) -> None:
    """
    Raises:
        UsageError: this process lacks what the manager's has.
    """
    try:
        environments.get(start.request.environment.id)
        agents.get(start.request.agent)
        context_strategy(start.request)
        if start.request.judge:
            judges.get(start.request.judge)
        if case is not None:
            judge_of(case.judge, start.request)
    except UsageError as error:
        raise UsageError(f"{error}; {WAY_OUT}") from error


async def work(link: Link) -> None:
    """Opens what the first message names, and runs tries until the manager says that it is enough, or is gone."""
    refused: list[str] = []
    async with aclosing(link.messages()) as messages:
        try:
            await _work(link, messages)
        except* UsageError as errors:
            refused += map(str, leaves(errors))
    if refused:
        link.send(wire.Refused(refused[0]))


async def _work(link: Link, messages: AsyncIterator[wire.ToWorker]) -> None:
    first = await anext(messages, None)
    if not isinstance(first, wire.Open):  # the manager is gone already
        return
    outbox = Outbox(link)
    async with opened(first, outbox) as platform, anyio.create_task_group() as tasks:
        with rare_collections():
            worker = Worker(link, outbox, platform, tasks)
            worker.open()
            tasks.start_soon(worker.beat)
            tasks.start_soon(worker.look)
            async for message in messages:
                if isinstance(message, wire.Stop):
                    break
                worker.obey(message)
        tasks.cancel_scope.cancel()


def opened(told: wire.Open, outbox: Outbox) -> AbstractAsyncContextManager[Platform]:
    """The platform that the manager wants.

    Raises:
        UsageError: its factory can't be imported here, or this machine's clock is wrong.
    """
    if difference := clocks.wrong(time.time(), told.at):
        raise UsageError(f"has a clock {difference} its manager's; set both right (NTP does), and begin again")
    sys.path[:] = [*told.path, *(own for own in sys.path if own not in told.path)]
    module, _, name = told.factory.partition(":")
    try:
        with boundary(Boundary.OPERATOR):
            make: PlatformFactory = getattr(importlib.import_module(module), name)
    except Fault as fault:
        raise UsageError(f"can't import '{told.factory}': {fault}") from fault
    return make(told.settings, outbox)


async def main(fd: int, wanted: str) -> None:
    stream = await UNIXSocketStream.from_socket(socket.socket(fileno=fd))
    async with wire.open_link(stream, wire.FROM_MANAGER) as link:
        if (ours := wire.release()) != wanted:  # before a message is read: they may differ
            link.send(wire.Refused(f"has envhub {ours} and its manager {wanted}; install the same in both places"))
        else:
            await work(link)


def die_with(parent: int) -> None:
    """Asks the kernel to end this process with its parent, where it can (Linux): a loop that hangs reads no socket."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[2]))
    anyio.run(main, int(sys.argv[1]), sys.argv[3], backend_options={"use_uvloop": find_spec("uvloop") is not None})
