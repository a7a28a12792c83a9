"""ProcessWorkers: N worker processes, on this machine or where its Posts are, and one manager that records for them.

Invariants: a rollout and all below it run in one process; a try that was handed over comes back exactly once, whatever
becomes of its process; events of one rollout are recorded in order, its outcome after them.

A process that dies, or does not answer any more, is replaced. Its rollouts go on in another one, each by the rule that
its environment has for that (see contracts/environment.py: Resume).
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import anyio

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, PolicyVersion
from envhub.contracts.outcome import Failure, Outcome
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import EngineFault, EnvhubError, UsageError, WorkersLost
from envhub.registry import environments
from envhub.rollouts import wire
from envhub.rollouts.admission import Claim
from envhub.rollouts.case import Case
from envhub.rollouts.loads import Loads
from envhub.rollouts.pause import OPERATOR, Pauses
from envhub.rollouts.posts import LocalPosts, Post, Posts
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.replay import Records
from envhub.rollouts.steering import Join, Leave, Load, Order
from envhub.rollouts.worker_process import WorkerProcess, open_worker

logger = logging.getLogger(__name__)

MAX_UNOPENED, MAX_BARREN = 4, 16  # deaths in a row in one place, of processes that never opened, that finished nothing
BACKOFF_S, LONGEST_BACKOFF_S = 0.1, 5.0  # before a process is replaced; doubled for each such death before
HERE = LocalPosts()
CLOSE_S = 30.0  # that processes have to close what they hold


@dataclass(frozen=True, slots=True)
class Crew:
    """How many processes, and of what kind.

    Raises:
        UsageError: a number out of its range.
    """

    size: int
    factory: str  # dotted name (module:function) of the PlatformFactory that each calls
    settings: bytes  # for it
    policies: Collection[PolicyId]  # that it serves
    hang_s: float = 60.0  # a process whose loop does not run for so long is killed

    def __post_init__(self) -> None:
        if self.size < 1 or not self.hang_s > 0:
            raise UsageError(f"{self.size} worker processes, killed after {self.hang_s} s; both must be positive")


class ProcessWorkers:
    """Open them with `open_process_workers`."""

    def __init__(self, crew: Crew, recorder: Recorder, pauses: "SharedPauses", posts: Posts) -> None:
        self.policies = crew.policies
        self.servers: Mapping[PolicyId, Collection[str]] = {}
        self.deaths = 0  # of processes, so far
        self._crew = crew
        self._recorder = recorder
        self._pauses = pauses
        self._posts = posts
        self._versions: dict[PolicyId, PolicyVersion] = {}  # the newest that were announced
        self._standing: dict[tuple[str, str], tuple[PolicyId, Order]] = {}  # orders that new processes get as well
        self._processes: dict[int, WorkerProcess] = {}  # by index
        self._hiring: dict[int, anyio.CancelScope] = {}  # by index
        self._loads: Loads[WorkerProcess] = Loads()  # tries of those that take some
        self._changed = anyio.Event()
        self._closing = anyio.Event()
        self._kept = crew.size

    @property
    def pids(self) -> list[int]:
        """Of the processes that take tries."""
        return [worker.post.pid for worker in self._open]

    @property
    def names(self) -> list[str]:
        """Which processes take tries, and where, in words."""
        return [worker.post.name for worker in self._open]

    async def run(
        self,
        start: RolloutStarted,
        tries_again: Callable[[Failure], bool],
        earlier: Records | None,
        standing: Claim,
        case: Case | None = None,
    ) -> Outcome:
        while True:
            worker = await self._free(start, earlier)
            given = worker.begin(start, tries_again, earlier, standing, case)
            self._loads.change(worker, len(worker.tries))
            try:
                await worker.over(given)
            finally:
                self._loads.change(worker, len(worker.tries))
            if given.unable:
                raise UsageError(f"{worker.post.name} {given.unable}")
            if given.outcome is not None:
                return given.outcome
            earlier = given.records  # its process died

    async def pause(self, scope: Scope, mode: PauseMode, *, by: str = OPERATOR) -> None:
        self._pauses.pause(scope, mode, by=by)
        await self._heard()

    async def resume(self, scope: Scope, *, pinned: bool, by: str = OPERATOR) -> None:
        self._pauses.resume(scope, pinned=pinned, by=by)
        await self._heard()

    async def abort(self, scope: Scope) -> None:
        self._pauses.abort(scope)
        await self._heard()

    @property
    def max_running(self) -> None:
        """The processes have shares of it, which stay."""

    async def limit(self, max_running: int) -> None:
        raise UsageError(
            f"max_running can't become {max_running}: this run's worker processes have shares of it; "
            "pause the run, or resume it with another --max-running"
        )

    async def steer(self, policy_id: PolicyId, order: Order) -> None:
        first = await self._steer_first(policy_id, order)
        if (standing := _standing(policy_id, order)) is not None:
            self._standing[standing] = (policy_id, order)  # processes that open from now on hear of it
        faults: list[str] = []

        async def follow(worker: WorkerProcess) -> None:
            if fault := await worker.steer(policy_id, order, first=False):
                faults.append(fault)

        async with anyio.create_task_group() as tasks:
            for worker in self._open:
                if worker is not first:
                    tasks.start_soon(follow, worker)
        if faults:
            raise EngineFault(f"in a worker process: {faults[0]}")

    async def _steer_first(self, policy_id: PolicyId, order: Order) -> WorkerProcess:
        """The process that did it, after those that died of it."""
        while True:
            while not self._open:
                await self._changed.wait()
            worker = self._open[0]
            fault = await worker.steer(policy_id, order, first=True)
            if fault:
                raise EngineFault(fault)
            if fault is not None:
                self.servers = worker.servers
                return worker
            while worker in self._open:  # it is about to go
                await self._changed.wait()

    def announce(self, policy_id: PolicyId, version: PolicyVersion) -> None:
        self._versions[policy_id] = version
        self.tell(wire.Announce(policy_id, version))

    def tell(self, message: wire.ToWorker) -> None:
        """Tells every process."""
        for worker in self._processes.values():
            worker.tell(message)

    async def ready(self) -> None:
        """Waits until every process takes tries."""
        while len(self._open) < self._crew.size:
            await self._changed.wait()

    async def keep(self, index: int) -> None:
        """Has a process in that place, a new one after each that died, until `close`."""
        try:
            await self._keep(index)
        except EnvhubError:
            self._closing.set()  # for one reason to give up is enough
            raise
        finally:
            self._kept -= 1
            self._notify()

    async def _keep(self, index: int) -> None:
        unopened = barren = 0  # deaths in a row
        while not self._closing.is_set():
            post = await self._hired(index)
            if post is None:
                return
            worker = await self._live(index, post)
            if self._closing.is_set():
                return
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

    async def close(self) -> None:
        """Ends all processes, once they have closed what they hold."""
        self._closing.set()
        for hiring in self._hiring.values():
            hiring.cancel()
        self.tell(wire.Stop())
        with anyio.move_on_after(CLOSE_S):
            while self._kept:
                await self._changed.wait()
        for worker in self._processes.values():
            logger.warning("%s did not close within %g s and is killed", worker.post.name, CLOSE_S)
            worker.post.kill()

    async def _hired(self, index: int) -> Post | None:
        """A process; None where it is closing time before one can be had."""
        with anyio.CancelScope() as hiring:
            self._hiring[index] = hiring
            try:
                return await self._posts.hire(index)
            finally:
                del self._hiring[index]
        return None

    async def _live(self, index: int, post: Post) -> WorkerProcess:
        """The life of one process."""
        crew = self._crew
        async with open_worker(index, post, self._recorder) as (worker, link), aclosing(link.messages()) as messages:
            link.send(wire.Open(crew.factory, crew.settings, index, crew.size, self._posts.path))
            for (scope, by), mode in self._pauses.in_force.items():
                link.send(wire.Pause(scope, mode, by))
            for policy_id, version in self._versions.items():
                link.send(wire.Announce(policy_id, version))
            self._processes[index] = worker
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(worker.confirm)
                    tasks.start_soon(worker.watch, crew.hang_s)
                    await worker.read(messages, partial(self._take_in, worker))
                    tasks.cancel_scope.cancel()
            finally:
                del self._processes[index]
                self._loads.remove(worker)
                self._notify()
        return worker

    def _take_in(self, worker: WorkerProcess) -> None:
        """It has opened: it hears what the others did before, and then takes tries."""
        for policy_id, order in self._standing.values():
            worker.send_order(policy_id, order, first=False)
        self.servers = self.servers or worker.servers
        self._loads.add(worker)
        self._notify()

    async def _free(self, start: RolloutStarted, earlier: Records | None) -> WorkerProcess:
        """The process to run it. Cancelled meanwhile, what was to go on ends here."""
        try:
            return await self._worker_for(start)
        except anyio.get_cancelled_exc_class():
            for event in earlier.end() if earlier else ():
                self._recorder.emit(event)
            raise

    async def _worker_for(self, start: RolloutStarted) -> WorkerProcess:
        """The one with the least to do, of those that have a place for its environment."""
        places = environments.get(start.request.environment.id).max_live or self._crew.size
        while (worker := self._least_of(places)) is None:
            await self._changed.wait()
        return worker

    def _least_of(self, places: int) -> WorkerProcess | None:
        """Of the first so many."""
        if places >= self._crew.size:
            return self._loads.least()
        able = [worker for worker in self._open if worker.index < places]
        return min(able, key=lambda worker: len(worker.tries), default=None)

    @property
    def _open(self) -> list[WorkerProcess]:
        return [worker for worker in self._processes.values() if worker.opened]

    async def _heard(self) -> None:
        """Waits until every process has done what it was told."""
        async with anyio.create_task_group() as tasks:
            for worker in self._open:
                tasks.start_soon(worker.heard)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _standing(policy_id: PolicyId, order: Order) -> tuple[str, str] | None:
    """What the order settles until another one of its kind does; None: nothing."""
    match order:
        case Load():
            return "weights", policy_id
        case Leave(server) | Join(server, _, _):
            return "server", server
    return None


class SharedPauses(Pauses):
    """The pauses of a run, which every worker process hears of."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Callable[[wire.ToWorker], None] = _nobody

    def pause(self, scope: Scope, mode: PauseMode, *, by: str = OPERATOR) -> None:
        super().pause(scope, mode, by=by)
        self.tell(wire.Pause(scope, mode, by))

    def resume(self, scope: Scope, *, pinned: bool = False, by: str = OPERATOR) -> None:
        super().resume(scope, pinned=pinned, by=by)
        self.tell(wire.Resume(scope, pinned, by))

    def abort(self, scope: Scope) -> None:
        self.tell(wire.Abort(scope))


def _nobody(message: wire.ToWorker) -> None:
    """There is no process yet."""


def lost(worker: WorkerProcess, deaths: int) -> WorkersLost:
    """Why it is given up."""
    return WorkersLost(
        f"{deaths} worker processes in a row died before they had finished anything; the last one, {worker.post.name}, "
        f"{worker.post.end}. What they wrote to stderr may say why. Where memory ran out, run fewer of them, or fewer "
        "rollouts at once"
    )


@asynccontextmanager
async def open_process_workers(
    crew: Crew, recorder: Recorder, pauses: SharedPauses, posts: Posts = HERE
) -> AsyncIterator[ProcessWorkers]:
    """Workers that take tries; on the way out they have ended.

    Raises:
        UsageError: a process can't be opened as it was told.
        WorkersLost: they die and die.
    """
    workers = ProcessWorkers(crew, recorder, pauses, posts)
    pauses.tell = workers.tell

    async def keep(index: int) -> None:
        with anyio.CancelScope(shield=True):  # who is cancelled around us still ends its rollouts in order
            await workers.keep(index)

    async with anyio.create_task_group() as tasks:
        for index in range(crew.size):
            tasks.start_soon(keep, index)
        try:
            await workers.ready()
            yield workers
        finally:
            with anyio.CancelScope(shield=True):
                await workers.close()
