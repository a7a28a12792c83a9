"""ProcessWorkers: N worker processes, on this machine or where its Posts are, and one manager that records for them.

Invariants: a rollout and all below it run in one process; a try that was handed over comes back exactly once, whatever
becomes of its process; events of one rollout are recorded in order, its outcome after them.

A process that dies, or does not answer any more, is replaced. Its rollouts go on in another one, each by the rule that
its environment has for that (see contracts/environment.py: Resume).
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import PolicyId, PolicyVersion
from envhub.contracts.outcome import Failure, Outcome
from envhub.contracts.pause import PauseMode, Scope
from envhub.errors import EngineFault, UsageError
from envhub.registry import Requirements, environments
from envhub.rollouts import wire
from envhub.rollouts.admission import RUNNING, Claim
from envhub.rollouts.case import Case
from envhub.rollouts.pause import OPERATOR, Pauses
from envhub.rollouts.posts import LocalPosts, Posts
from envhub.rollouts.quotas import Quotas
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.replay import Records
from envhub.rollouts.steering import Join, Leave, Load, Order
from envhub.rollouts.team import LOOK_S, Crew, Team
from envhub.rollouts.worker_process import WorkerProcess

logger = logging.getLogger(__name__)

HERE = LocalPosts()
BALANCE_S = 0.02  # between two times that quotas move
CLOSE_S = 30.0  # that processes have to close what they hold


class ProcessWorkers:
    """Open them with `open_process_workers`."""

    def __init__(self, crew: Crew, recorder: Recorder, pauses: "SharedPauses", posts: Posts, tasks: TaskGroup) -> None:
        self.policies = crew.policies
        self.servers: Mapping[PolicyId, Collection[str]] = {}
        self._crew = crew
        self._recorder = recorder
        self._pauses = pauses
        self._posts = posts
        self._tasks = tasks
        self._teams: dict[Requirements, Team] = {}
        self._versions: dict[PolicyId, PolicyVersion] = {}  # the newest that were announced
        self._standing: dict[tuple[str, str], tuple[PolicyId, Order]] = {}  # orders that new processes get as well
        self._quotas: Quotas[WorkerProcess] = Quotas()
        self._usage = anyio.Event()  # there is more or less of it
        self._changed = anyio.Event()
        self._closing = anyio.Event()

    @property
    def deaths(self) -> int:
        """Of processes, so far."""
        return sum(team.deaths for team in self._teams.values())

    @property
    def pids(self) -> list[int]:
        """Of the processes that take tries."""
        return [worker.post.pid for worker in self._open]

    @property
    def names(self) -> list[str]:
        """Which processes take tries, and where, in words."""
        return [worker.post.name for worker in self._open]

    @property
    def tries(self) -> list[int]:
        """How many each of these has."""
        return [len(worker.tries) for worker in self._open]

    async def run(
        self,
        start: RolloutStarted,
        tries_again: Callable[[Failure], bool],
        earlier: Records | None,
        standing: Claim,
        case: Case | None = None,
    ) -> Outcome:
        while True:
            team, worker = await self._free(start, earlier)
            given = worker.begin(start, tries_again, earlier, standing, case)
            team.count(worker)
            try:
                await worker.over(given)
            finally:
                team.count(worker)
            if given.returned:
                continue
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
    def max_running(self) -> int | None:
        return self._quotas.total(RUNNING)

    async def limit(self, max_running: int) -> None:
        self._quotas.resize(RUNNING, max_running)
        self._usage.set()

    async def balance(self) -> None:
        """Moves quotas to where work waits."""
        while True:
            await self._usage.wait()
            self._usage = anyio.Event()
            for worker, allotted in self._quotas.moves():
                worker.tell(allotted)
            await anyio.sleep(BALANCE_S)

    async def look_after(self) -> None:
        """Has as many processes of each kind as there is work for."""
        while True:
            await anyio.sleep(LOOK_S)
            for team in self._teams.values():
                team.look()

    def greetings(self) -> Iterator[wire.ToWorker]:
        """What a new process is told first."""
        for (scope, by), mode in self._pauses.in_force.items():
            yield wire.Pause(scope, mode, by)
        for policy_id, version in self._versions.items():
            yield wire.Announce(policy_id, version)

    def opened(self, worker: WorkerProcess) -> None:
        """It gets its part of the limits, and hears what the others did before."""
        for allotted in self._quotas.join(worker, worker.limits, self._crew.bounds.most * len(self._teams)):
            worker.tell(allotted)
        for policy_id, order in self._standing.values():
            worker.send_order(policy_id, order, first=False)
        self.servers = self.servers or worker.servers
        self.changed()

    def used(self, worker: WorkerProcess, usage: wire.Usage) -> None:
        """It uses so much of a limit."""
        self._quotas.report(worker, usage)
        self._usage.set()

    def gone(self, worker: WorkerProcess) -> None:
        """It holds nothing any more."""
        self._quotas.leave(worker)
        self._usage.set()

    def changed(self) -> None:
        """There are other processes than before."""
        self._changed.set()
        self._changed = anyio.Event()

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
        for team in self._teams.values():
            for worker in team.processes.values():
                worker.tell(message)

    async def open(self) -> None:
        """Waits until every process of the kinds that there are takes tries."""
        for requires in self._crew.kinds:
            self._team(requires)
        while not all(team.ready for team in self._teams.values()):
            await self._changed.wait()

    async def close(self) -> None:
        """Ends all processes, once they have closed what they hold."""
        self._closing.set()
        for team in self._teams.values():
            team.close()
        with anyio.move_on_after(CLOSE_S):
            while not all(team.over for team in self._teams.values()):
                await self._changed.wait()
        for team in self._teams.values():
            for worker in team.processes.values():
                logger.warning("%s did not close within %g s and is killed", worker.post.name, CLOSE_S)
                worker.post.kill()

    def _team(self, requires: Requirements) -> Team:
        if requires not in self._teams:
            team = Team(requires, self._crew, self._recorder, self._posts, self, self._tasks, self._closing)
            self._teams[requires] = team
            team.want(self._crew.bounds.least)
        return self._teams[requires]

    async def _free(self, start: RolloutStarted, earlier: Records | None) -> tuple[Team, WorkerProcess]:
        """The process to run it. Cancelled meanwhile, what was to go on ends here."""
        team = self._team(environments.get(start.request.environment.id).requires)
        try:
            while (worker := team.worker_for(start)) is None:
                await self._changed.wait()
        except anyio.get_cancelled_exc_class():
            for event in earlier.end() if earlier else ():
                self._recorder.emit(event)
            raise
        return team, worker

    @property
    def _open(self) -> list[WorkerProcess]:
        return [worker for team in self._teams.values() for worker in team.open]

    async def _heard(self) -> None:
        """Waits until every process has done what it was told."""
        async with anyio.create_task_group() as tasks:
            for worker in self._open:
                tasks.start_soon(worker.heard)


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


@asynccontextmanager
async def open_process_workers(
    crew: Crew, recorder: Recorder, pauses: SharedPauses, posts: Posts = HERE
) -> AsyncIterator[ProcessWorkers]:
    """Workers that take tries; on the way out they have ended.

    Raises:
        UsageError: a process can't be opened as it was told.
        WorkersLost: they die and die.
    """
    async with anyio.create_task_group() as tasks:
        workers = ProcessWorkers(crew, recorder, pauses, posts, tasks)
        pauses.tell = workers.tell
        tasks.start_soon(workers.balance)
        tasks.start_soon(workers.look_after)
        try:
            await workers.open()
            yield workers
        finally:
            with anyio.CancelScope(shield=True):
                await workers.close()
            tasks.cancel_scope.cancel()
