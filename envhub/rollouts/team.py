"""Team: the worker processes of one kind, those with the same packages: as many as there is work for.

Invariants: a place has one process at a time; one that died is replaced by a new one, one that is not wanted any more
gets no more tries and ends when it has none.
"""

import logging
import time
from collections.abc import Collection, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, RolloutId
from envhub.errors import EnvhubError, UsageError, WorkersLost
from envhub.registry import Requirements, environments
from envhub.rollouts import wire
from envhub.rollouts.loads import Loads
from envhub.rollouts.posts import Post, Posts
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.staffing import Bounds, Staffing, surplus
from envhub.rollouts.worker_process import WorkerProcess, open_worker

logger = logging.getLogger(__name__)

MAX_UNOPENED, MAX_BARREN = 4, 16  # deaths in a row in one place, of processes that never opened, that finished nothing
BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 5.0  # before a process is replaced; doubled for each such death before
LOOK_S = 1.0  # between two looks at who has how much to do


@dataclass(frozen=True, slots=True)
class Crew:
    """How many processes of each kind, and what they run.

    Raises:
        UsageError: a time that is not positive.
    """

    bounds: Bounds
    factory: str  # dotted name (module:function) of the PlatformFactory that each calls
    settings: bytes  # for it
    policies: Collection[PolicyId]  # that it serves
    hang_s: float = 60.0  # a process whose loop does not run for so long is killed
    idle_s: float = 60.0  # where fewer were enough for so long, the others end
    kinds: Collection[Requirements] = ((),)  # that there are from the start; others come with their first try

    def __post_init__(self) -> None:
        for name, seconds in (("killed", self.hang_s), ("let go", self.idle_s)):
            if not seconds > 0:
                raise UsageError(f"worker processes are {name} after {seconds} s; it must be positive")


class Employer(Protocol):
    """Whose workers they are."""

    @property
    def max_running(self) -> int | None:
        """How many rollouts of all act at once; None before it is known."""

    def greetings(self) -> Iterable[wire.ToWorker]:
        """What each is told first."""

    def opened(self, worker: WorkerProcess) -> None:
        """It takes tries from now on."""

    def used(self, worker: WorkerProcess, usage: wire.Usage) -> None:
        """It has said so."""

    def gone(self, worker: WorkerProcess) -> None:
        """It runs no more."""

    def changed(self) -> None:
        """There are others than before."""


class Team:
    """Those with these packages, beside what all have."""

    def __init__(
        self,
        requires: Requirements,
        crew: Crew,
        recorder: Recorder,
        posts: Posts,
        employer: Employer,
        tasks: TaskGroup,
        closing: anyio.Event,
    ) -> None:
        self.processes: dict[int, WorkerProcess] = {}  # by index
        self.deaths = 0  # of processes, so far
        self._requires = requires
        self._crew = crew
        self._recorder = recorder
        self._posts = posts
        self._employer = employer
        self._tasks = tasks
        self._closing = closing
        self._hiring: dict[int, anyio.CancelScope] = {}  # by index
        self._loads: Loads[WorkerProcess] = Loads()  # tries of those that take some
        self._kept: set[int] = set()  # indexes of those that are, or are being hired
        self._wanted = 0  # of them: those with the lowest indexes
        self._staffing = Staffing(crew.bounds, max(1, round(crew.idle_s / LOOK_S)))

    @property
    def open(self) -> list[WorkerProcess]:
        """Those that opened."""
        return [worker for worker in self.processes.values() if worker.opened]

    @property
    def ready(self) -> bool:
        """Whether all that are wanted take tries."""
        return len(self.open) >= self._wanted

    @property
    def over(self) -> bool:
        """Whether none is left."""
        return not self._kept

    def worker_for(self, start: RolloutStarted) -> WorkerProcess | None:
        """The one with the least to do, of those that have a place for its environment; None where there is none."""
        most = self._crew.bounds.most
        places = environments.get(start.request.environment.id).max_live or most
        if places >= most:
            return self._loads.least()
        able = [worker for worker in self.open if worker.index < places and worker in self._loads]
        return min(able, key=lambda worker: len(worker.tries), default=None)

    def count(self, worker: WorkerProcess) -> None:
        """It has more tries, or less."""
        self._loads.change(worker, len(worker.tries))

    def look(self) -> None:
        """Has more where there is more to do, and fewer where there is less; tries that wait go where there is less."""
        tries, bounds = sum(len(worker.tries) for worker in self.open), self._crew.bounds
        if self._employer.max_running and bounds.least < bounds.most:
            self.want(self._staffing.wanted(tries, self._employer.max_running))
        self._even_out()

    def want(self, wanted: int) -> None:
        """So many from now on."""
        if wanted != self._wanted:
            logger.info("%d worker processes, %d before", wanted, self._wanted)
        self._wanted = wanted
        for index in set(range(wanted)) - self._kept:
            self._kept.add(index)
            self._tasks.start_soon(self._keep, index)
        for index, hiring in self._hiring.items():
            if index >= wanted:
                hiring.cancel()
        for worker in self.open:
            self._employ(worker)

    def close(self) -> None:
        """Has all end, once they have closed what they hold; nobody is hired any more."""
        for hiring in self._hiring.values():
            hiring.cancel()
        for worker in self.processes.values():
            worker.tell(wire.Stop())

    def _employ(self, worker: WorkerProcess) -> None:
        """It takes tries where it is wanted; else it ends when it has none."""
        if worker.index >= self._wanted:
            self._loads.remove(worker)
            if not worker.tries:
                worker.stop()
        elif not worker.stopped and worker not in self._loads:
            self._loads.add(worker)
            self.count(worker)
            self._employer.changed()

    def _even_out(self) -> None:
        tries = {worker: len(worker.tries) for worker in self.open if worker in self._loads}
        for worker, more in surplus(tries).items():
            if ids := self._free_to_go(worker)[-more:]:
                worker.tell(wire.Recall(ids))

    def _free_to_go(self, worker: WorkerProcess) -> list[RolloutId]:
        """Tries that wait there, and could be in any other one as well."""
        most = self._crew.bounds.most
        requests = ((id, worker.tries[id].start.request) for id in worker.waiting)
        return [id for id, request in requests if (environments.get(request.environment.id).max_live or most) >= most]

    async def _keep(self, index: int) -> None:
        """Has a process in that place, as long as one is wanted there."""
        try:
            with anyio.CancelScope(shield=True):  # who is cancelled around us still ends its rollouts in order
                await self._fill(index)
        except EnvhubError:
            self._closing.set()  # for one reason to give up is enough
            raise
        finally:
            self._kept.discard(index)
            self._employer.changed()

    async def _fill(self, index: int) -> None:
        unopened = barren = 0  # deaths in a row
        while not self._closing.is_set() and index < self._wanted:
            post = await self._hired(index)
            if post is None:
                return
            worker = await self._live(index, post)
            self._employer.gone(worker)
            if self._closing.is_set():
                return
            if worker.stopped:
                continue
            self.deaths += 1
            unopened = 0 if worker.opened else unopened + 1
            barren = 0 if worker.finished else barren + 1
            if worker.refused:
                raise UsageError(f"{worker.post.name} {worker.refused}")
            if unopened == MAX_UNOPENED or barren == MAX_BARREN:
                raise lost(worker, barren)
            logger.warning("%s %s; its rollouts go on elsewhere", worker.post.name, worker.post.end)
            with anyio.move_on_after(min(BACKOFF_S * 2 ** max(0, barren - 1), LONGEST_BACKOFF_S)):
                await self._closing.wait()

    async def _hired(self, index: int) -> Post | None:
        """A process; None where it is not wanted any more before one can be had."""
        with anyio.CancelScope() as hiring:
            self._hiring[index] = hiring
            try:
                return await self._posts.hire(index, self._requires)
            finally:
                del self._hiring[index]
        return None

    async def _live(self, index: int, post: Post) -> WorkerProcess:
        """The life of one process."""
        crew = self._crew
        async with open_worker(index, post, self._recorder) as (worker, link), aclosing(link.messages()) as messages:
            link.send(wire.Open(crew.factory, crew.settings, self._posts.path, time.time()))
            for greeting in self._employer.greetings():
                link.send(greeting)
            self.processes[index] = worker
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(worker.confirm)
                    tasks.start_soon(worker.watch, crew.hang_s)
                    used = partial(self._employer.used, worker)
                    await worker.read(messages, partial(self._take_in, worker), used)
                    tasks.cancel_scope.cancel()
            finally:
                del self.processes[index]
                self._loads.remove(worker)
                self._employer.changed()
        return worker

    def _take_in(self, worker: WorkerProcess) -> None:
        self._employer.opened(worker)
        self._employ(worker)


def lost(worker: WorkerProcess, deaths: int) -> WorkersLost:
    """Why it is given up."""
    return WorkersLost(
        f"{deaths} worker processes in a row died before they had finished anything; the last one, {worker.post.name}, "
        f"{worker.post.end}. What they wrote to stderr may say why. Where memory ran out, run fewer of them, or fewer "
        "rollouts at once"
    )
