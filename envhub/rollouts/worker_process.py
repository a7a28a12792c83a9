"""WorkerProcess: one worker process as its manager sees it.

Invariants: a try that was begun here is over exactly once, be it that the process dies; its events reach the recorder
before that; what a dead process left running goes on elsewhere, or has ended.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio

from envhub.contracts.environment import Resume
from envhub.contracts.events import Event, RolloutEnded, RolloutStarted
from envhub.contracts.ids import PolicyId, RolloutId
from envhub.contracts.outcome import Failure, Outcome
from envhub.rollouts import wire
from envhub.rollouts.admission import Claim
from envhub.rollouts.case import Case
from envhub.rollouts.journal import Journal
from envhub.rollouts.posts import Post
from envhub.rollouts.recorder import Recorder
from envhub.rollouts.replay import ENDED_EARLY, Records, way_of
from envhub.rollouts.steering import Order

logger = logging.getLogger(__name__)

MAX_BACKLOG = 10_000  # events that wait for the store: with more, nothing is read from workers
OPEN_S = 900.0  # that a process has to load its model
LOOKS = 4  # at the heartbeat, in the time after which a process counts as hung


@dataclass(slots=True, eq=False)
class Try:
    """One try of a member, while a process has it."""

    start: RolloutStarted
    tries_again: Callable[[Failure], bool]
    records: Records | None  # of another process before; and of this one, where it is to go on elsewhere
    outcome: Outcome | None = None
    cancelled: bool = False
    returned: bool = False  # it did not begin there, and is to begin in another one
    unable: str = ""  # why that process can't run it
    over: anyio.Event = field(default_factory=anyio.Event)


class WorkerProcess:
    """Open it with `open_worker`."""

    def __init__(self, index: int, post: Post, link: wire.Link[wire.ToManager], recorder: Recorder) -> None:
        self.index = index
        self.post = post
        self.tries: dict[RolloutId, Try] = {}
        self.finished = 0  # tries, be it that it died too often under them
        self.opened = False  # it takes tries
        self.refused = ""  # why it can't be opened
        self.stopped = False  # it is not needed any more
        self._link = link
        self._recorder = recorder
        self._journal = Journal()
        self.servers: dict[PolicyId, tuple[str, ...]] = {}  # as Steering has them
        self.limits: dict[str, int] = {}  # that it has quotas of
        self._asked = self._answered = 0  # number of the last question
        self._steered: dict[int, str] = {}  # what was wrong with an order, by its number
        self._changed = anyio.Event()  # it opened, answered, or ended
        self._dead = False
        self._silent = 0  # looks since a message came
        self._taken = 0  # events,
        self._wanted = anyio.Event()  # which it wants to be durable

    def begin(
        self,
        start: RolloutStarted,
        tries_again: Callable[[Failure], bool],
        earlier: Records | None,
        standing: Claim,
        case: Case | None,
    ) -> Try:
        """Sends it a try."""
        given = self.tries[start.rollout_id] = Try(start, tries_again, earlier)
        if earlier is not None:
            self._journal.adopt(earlier)
        history = [wire.Recorded.of(event) for event in earlier.history] if earlier else []
        self._link.send(wire.Start(wire.Recorded.of(start), standing, history, case))
        return given

    @property
    def waiting(self) -> list[RolloutId]:
        """Tries that have not begun, as far as is known."""
        live = self._journal.live
        return [id for id, given in self.tries.items() if id not in live and given.records is None]

    def stop(self) -> None:
        """Has it end: it has no more to do."""
        if not self.stopped:
            self.stopped = True
            self._link.send(wire.Stop())

    async def over(self, given: Try) -> None:
        """Waits for the end of a try; cancelled, it cancels it first."""
        try:
            await given.over.wait()
        except anyio.get_cancelled_exc_class():
            given.cancelled = True
            self._link.send(wire.Cancel(given.start.rollout_id))
            with anyio.CancelScope(shield=True):
                await given.over.wait()
            raise

    def tell(self, message: wire.ToWorker) -> None:
        self._link.send(message)

    async def heard(self) -> None:
        """Waits until it has done all that it was told so far; nothing, where it is dead."""
        self._asked += 1
        number = self._asked
        self._link.send(wire.Ask(number))
        while self._answered < number and not self._dead:
            await self._changed.wait()

    async def steer(self, policy_id: PolicyId, order: Order, *, first: bool) -> str | None:
        """Has it do that; returns what was wrong, "" for nothing, None where it is dead."""
        number = self.send_order(policy_id, order, first=first)
        while number not in self._steered and not self._dead:
            await self._changed.wait()
        return self._steered.pop(number, None)

    def send_order(self, policy_id: PolicyId, order: Order, *, first: bool) -> int:
        """The number that it will answer with."""
        self._asked += 1
        self._link.send(wire.Steer(self._asked, policy_id, order, first))
        return self._asked

    async def read(
        self, messages: AsyncIterator[wire.ToManager], opened: Callable[[], None], used: Callable[[wire.Usage], None]
    ) -> None:
        """Takes what it reports, until it is gone."""
        async for message in messages:
            self._silent = 0
            self._take(message)
            if isinstance(message, wire.Opened):
                opened()
            elif isinstance(message, wire.Usage):
                used(message)
            while self._recorder.backlog > MAX_BACKLOG:
                await self._recorder.flush()

    async def confirm(self) -> None:
        """Tells it what is durable, when it asks."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            taken = self._taken
            await self._recorder.flush()
            self._link.send(wire.Answer(taken))

    async def watch(self, hang_s: float) -> None:
        """Kills it when nothing came from it for so long, or when it takes too long to open."""
        look_s = hang_s / LOOKS
        while self._silent * look_s < (hang_s if self.opened else OPEN_S):
            await anyio.sleep(look_s)
            self._silent += 1  # looks, not seconds: a loop that stands still takes no messages either
        logger.warning("%s did not answer for %g s and is killed", self.post.name, hang_s)
        self.post.kill()

    def lose(self) -> None:
        """It is dead: what it ran is over here."""
        self._dead = True
        self._notify()
        for given in self.tries.values():
            self._settle(given)
            given.over.set()

    def _take(self, message: wire.ToManager) -> None:
        match message:
            case wire.Recorded():
                self._record(message.sealed)
            case wire.Over(rollout_id):
                self.tries.pop(rollout_id).over.set()
                self.finished += 1
            case wire.Returned(rollout_id):
                given = self.tries.pop(rollout_id)
                given.returned = True
                given.over.set()
            case wire.Ask():
                self._wanted.set()
            case wire.Answer(number):
                self._answered = number
                self._notify()
            case wire.Opened(servers, limits):
                self.opened, self.servers, self.limits = True, servers, limits
            case wire.Steered(number, fault, servers):
                self._steered[number], self.servers = fault, servers
                self._notify()
            case wire.Refused(reason):
                self.refused = reason
            case wire.Unable(rollout_id, reason):
                self.tries[rollout_id].unable = reason
                self.tries.pop(rollout_id).over.set()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    def _record(self, event: Event) -> None:
        self._taken += 1
        if isinstance(event, RolloutEnded) and event.failure and event.rollout_id in self.tries:
            # Only here is it known whether another try follows.
            event = replace(event, requeued=self.tries[event.rollout_id].tries_again(event.failure))
        self._note(event)

    def _note(self, event: Event) -> None:
        ended = self._journal.take(event)
        if ended is not None and ended.start.parent is None:
            self.tries[ended.start.rollout_id].outcome = ended.outcome
        self._recorder.emit(event)

    def _settle(self, given: Try) -> None:
        """Ends what can't go on of a try, or all of it where it gets no other worker."""
        records = self._journal.live.get(given.start.rollout_id)
        if records is None:
            return
        again = given.cancelled or (not records.aborted and given.tries_again(ENDED_EARLY))
        for each in list(records.tree()):
            goes_on = again and not given.cancelled and not each.aborted and way_of(each.start) is not Resume.RESTART
            if not goes_on and each.start.rollout_id in self._journal.live:
                for event in list(each.end()):
                    self._note(replace(event, requeued=event.requeued and again))
        given.records = self._journal.live.get(given.start.rollout_id)
        self.finished += not again


@asynccontextmanager
async def open_worker(
    index: int, post: Post, recorder: Recorder
) -> AsyncIterator[tuple[WorkerProcess, wire.Link[wire.ToManager]]]:
    """A worker that waits for its first message. On the way out its post is left, and only after that its tries are
    over: nobody else may go on with them before."""
    worker: WorkerProcess | None = None
    try:
        async with wire.open_link(post.stream, wire.FROM_WORKER) as link:
            worker = WorkerProcess(index, post, link, recorder)
            yield worker, link
    finally:
        with anyio.CancelScope(shield=True):
            await post.leave()
        if worker is not None:
            worker.lose()
