"""Showcase: the whole run, batch by batch, and what tells its tokens' text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from envhub.contracts.events import Event, GroupClosed, GroupSubmitted, RunStarted
from envhub.contracts.ids import EnvironmentId, PolicyVersion, RolloutId, RunId, TaskId, group_id, member_rollout_id
from envhub.contracts.messages import Message
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.store import TraceStore
from envhub.contracts.task import Task
from envhub.testing.showcase import special
from envhub.testing.showcase.many import VERSIONS, K, Many
from envhub.testing.showcase.swarm import swarm
from envhub.testing.showcase.vocabulary import Vocabulary
from envhub.testing.showcase.writer import Writer

RUN = RunId("showcase")
MODEL = {"engine": "scripted", "weights": "showcase"}
SECONDS = 5400.0  # from its first rollout to its last
SPECIAL = ("swarm", "long", "branching", "pictures", "hostile", "cut-short", "running", "stuck", "no-turn-yet")
SWARM = member_rollout_id(group_id(RUN, SPECIAL.index("swarm")), 0, 0)


@dataclass(slots=True)
class Showcase:
    """`rollouts` short ones in groups of K, then one group for each of SPECIAL, ending at `now`."""

    now: float
    rollouts: int = 100_000
    long_tokens: int = 200_000
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(7))

    def rollout(self, name: str) -> RolloutId:
        """The id of one of SPECIAL."""
        return member_rollout_id(group_id(RUN, SPECIAL.index(name)), 0, 0)

    def batches(self) -> Iterator[list[Event]]:
        started = self.now - SECONDS
        settings = {"job": "grpo", "model": MODEL, "k": K, "temperature": 1.0, "max_running": 1024}
        yield [RunStarted(RUN, started - 5, 7, settings)]
        groups = self.rollouts // K
        many = Many(RUN, self.vocabulary, self.random, started, SECONDS - 60, groups, first=len(SPECIAL))
        for name in SPECIAL:
            yield from self._special(name)
        yield from many.events()

    def _special(self, name: str) -> Iterator[list[Event]]:
        number = SPECIAL.index(name)
        writer = self._begin(name, self.rollout(name), self.now - SECONDS + 30 * number)
        group = writer.start.group_id
        yield [GroupSubmitted(RUN, writer.now, group, number, GroupRequest(writer.start.request, k=1, max_tries=1))]
        if name == "swarm":
            begin = self._child_of(writer)
            yield from swarm(writer, begin)
        else:
            self._play(name, writer)
            yield writer.events
        if name not in ("running", "stuck", "no-turn-yet"):
            yield [GroupClosed(RUN, writer.now, group, (0,), PolicyVersion(VERSIONS - 1))]

    def _play(self, name: str, writer: Writer) -> None:
        plays: dict[str, Callable[[], None]] = {
            "long": lambda: special.long(writer, self.long_tokens),
            "branching": lambda: special.branching(writer),
            "pictures": lambda: special.pictures(writer),
            "hostile": lambda: special.hostile(writer),
            "cut-short": lambda: special.cut_short(writer),
            "running": lambda: special.running(writer, 4),
            "stuck": lambda: special.running(writer, 1),
            "no-turn-yet": lambda: None,
        }
        plays[name]()

    def _begin(self, name: str, id: RolloutId, at: float) -> Writer:
        group = group_id(RUN, SPECIAL.index(name))
        return Writer.begin(at, self.vocabulary, self.random, _request(name), id, group, RUN, version=3)

    def _child_of(self, root: Writer) -> Callable[[float, RolloutId, RolloutId | None, RolloutId], Writer]:
        def begin(at: float, id: RolloutId, parent: RolloutId | None, top: RolloutId) -> Writer:
            group, request = root.start.group_id, root.start.request
            return Writer.begin(
                at, self.vocabulary, self.random, request, id, group, RUN, parent=parent, root=top, version=3
            )

        return begin


async def record(store: TraceStore, showcase: Showcase, *, batch: int = 4096) -> None:
    """Appends the run to `store`, many events at a time."""
    waiting: list[Event] = []
    for events in showcase.batches():
        waiting += events
        if len(waiting) >= batch:
            await store.append(waiting)
            waiting = []
    await store.append(waiting)


def _request(name: str) -> RolloutRequest:
    environment = {"pictures": "demo/charts-v0", "swarm": "demo/search-v0"}.get(name, "demo/repair-v0")
    question = f"{name}: the tests of parse() fail. Find out why, mend it, and say what you changed."
    message = Message.user(question, *_shown(name))
    system = Message.system("You are a careful engineer. Tools: python, search. Answer in one sentence at the end.")
    task = Task(TaskId(name), (system, message), answer="int", metadata={"difficulty": "medium", "source": "showcase"})
    return RolloutRequest(EnvironmentRef(EnvironmentId(environment), {"timeout_s": 30}), task)


def _shown(name: str) -> tuple[bytes, ...]:
    if name != "pictures":
        return ()
    return special.picture(320, 200, 40, 90), special.picture(200, 200, 220, 10)
