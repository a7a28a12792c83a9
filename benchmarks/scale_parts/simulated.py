"""What a completed rollout costs the manager, with workers that only replay: in virtual time, so that a thousand fit.

Manager, journal, links and messages are the real ones. A worker answers each try with the events of a recorded one
under the try's own id, spread over some seconds; making those is not counted. Nothing is stored: docs/adr/005 has that.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush

import anyio
import msgspec
from anyio.abc import ByteStream

from benchmarks.scale_parts.runs import NULL, Where, opened
from benchmarks.scale_parts.steps import TURNS, group
from envhub.contracts.events import Event, RolloutStarted
from envhub.contracts.ids import TRAINED
from envhub.registry import Requirements
from envhub.rollouts import wire
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.manager import Origin, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.process_workers import SharedPauses, open_process_workers
from envhub.rollouts.recorder import open_recorder
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.versions import Versions
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing import virtual_time

BEAT_S = 1.0
CALLS_PER_S, SHORTEST_S = 500, 0.1  # as ray_workers.py has them, which can't be imported without Ray
EACH_S = 4.0  # a rollout
LIVE = 4  # of a worker: it completes one a second


@dataclass(slots=True)
class Traffic:
    """What went between the manager and all of its workers, and what it recorded."""

    messages: int = 0
    frames: int = 0
    bytes: int = 0
    events: int = 0

    def count(self, frame: bytes, messages: int) -> None:
        self.frames += 1
        self.bytes += len(frame)
        self.messages += messages


@dataclass(frozen=True, slots=True)
class Played:
    """So many rollouts, played to their ends."""

    rollouts: int
    cpu_s: float  # of the manager alone
    virtual_s: float
    traffic: Traffic

    @property
    def cpu_us(self) -> float:
        """A rollout."""
        return self.cpu_s / self.rollouts * 1e6


class Nowhere(MemoryTraceStore):
    """Keeps nothing, and counts it."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    async def append(self, events: Sequence[Event]) -> None:
        self._traffic.events += len(events)


class Uncounted:
    """CPU that is not the manager's."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.process_time()

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.process_time() - self._began


class ReplayingStream(ByteStream):
    """A worker process that answers."""

    def __init__(self, template: Sequence[Event], gather_s: float, aside: Uncounted, traffic: Traffic) -> None:
        self._template = template
        self._gather_s = gather_s
        self._aside = aside
        self._traffic = traffic
        self._encoder = msgspec.msgpack.Encoder()
        self._out: list[tuple[float, int, bytes]] = []  # when, in which order, what
        self._sent = 0
        self._over = False

    async def receive(self, max_bytes: int = 65536) -> bytes:
        now = anyio.current_time()
        following = min(now + BEAT_S, self._out[0][0] if self._out else now + BEAT_S)
        await anyio.sleep_until(max(now + self._gather_s, following))
        if self._over:
            raise anyio.EndOfStream
        with self._aside:
            return self._due(anyio.current_time())

    async def send(self, item: bytes) -> None:
        with self._aside:
            messages = wire.FROM_MANAGER.decode(item[wire.LENGTH_BYTES :])
            self._traffic.count(item, len(messages))
            for message in messages:
                self._obey(message, anyio.current_time())

    async def send_eof(self) -> None:
        """It ends by a message."""

    async def aclose(self) -> None:
        self._over = True

    def _obey(self, message: wire.ToWorker, now: float) -> None:
        match message:
            case wire.Open():
                self._say(now, wire.Opened({}, {}))
            case wire.Start(start):
                self._play(start.event, now)
            case wire.Stop():
                self._over = True

    def _play(self, start: Event, now: float) -> None:
        assert isinstance(start, RolloutStarted)
        events = [replace(event, rollout_id=start.rollout_id) for event in self._template]
        for number, event in enumerate([start, *events]):
            self._say(now + EACH_S * number / len(events), wire.Recorded.of(event))
        self._say(now + EACH_S, wire.Over(start.rollout_id))

    def _say(self, at: float, message: wire.ToManager) -> None:
        self._sent += 1
        heappush(self._out, (at, self._sent, self._encoder.encode(message)))

    def _due(self, now: float) -> bytes:
        due = []
        while self._out and self._out[0][0] <= now:
            due.append(msgspec.Raw(heappop(self._out)[2]))
        frame = self._encoder.encode(due or [wire.Beat()])
        frame = len(frame).to_bytes(wire.LENGTH_BYTES, "little") + frame
        self._traffic.count(frame, len(due))
        return frame


@dataclass(frozen=True, slots=True)
class ReplayingPost:
    """Where such a worker is."""

    stream: ReplayingStream
    name: str = "a simulated worker"
    pid: int = 0
    end: str = "ended"

    def kill(self) -> None:
        """Nothing runs."""

    async def leave(self) -> None:
        """Nothing runs."""


@dataclass(frozen=True, slots=True)
class ReplayingPosts:
    template: Sequence[Event]
    gather_s: float
    aside: Uncounted
    traffic: Traffic
    path: list[str] = field(default_factory=list)

    async def hire(self, index: int, requires: Requirements) -> ReplayingPost:
        return ReplayingPost(ReplayingStream(self.template, self.gather_s, self.aside, self.traffic))


def as_it_is(event: Event) -> Event:
    return event


async def recorded(turns: int) -> list[Event]:
    """Of one rollout, all but its start."""
    async with opened(Where(), 0.0, 16) as run:
        await run.play(10, turns)
        await run.recorder.flush()
        first = run.ended[0].rollout_id
        events = [event async for event in run.store.events(NULL) if getattr(event, "rollout_id", "") == first]
        return [event for event in events if not isinstance(event, RolloutStarted)]


def play(workers: int, rollouts: int, turns: int = TURNS, like: Callable[[Event], Event] = as_it_is) -> Played:
    """Rollouts of so many turns, with so many workers that complete one a second each."""
    template = [like(event) for event in anyio.run(recorded, turns)]
    return virtual_time.run(_play, workers, rollouts, template)


async def _play(workers: int, rollouts: int, template: Sequence[Event]) -> Played:
    aside, request, traffic = Uncounted(), group(), Traffic()
    posts = ReplayingPosts(template, max(SHORTEST_S, workers / CALLS_PER_S), aside, traffic)
    pace_s = request.k / (workers * LIVE / EACH_S)
    async with AsyncExitStack() as stack:
        recorder = await stack.enter_async_context(open_recorder(Nowhere(traffic)))
        crew = Crew(Bounds(workers, workers), "", b"", [TRAINED])
        doing = await stack.enter_async_context(open_process_workers(crew, recorder, SharedPauses(), posts))
        stack.enter_context(rare_collections())
        began, apart, at = time.process_time(), aside.seconds, anyio.current_time()
        async with open_manager(
            Origin(NULL, 0), doing, recorder, OwnConsumer(recorder), Versions(), max_groups=rollouts
        ) as manager:
            for _ in range(rollouts // request.k):
                await manager.start(request)
                await anyio.sleep(pace_s)
        cpu_s = time.process_time() - began - (aside.seconds - apart)
        return Played(rollouts, cpu_s, anyio.current_time() - at, traffic)
