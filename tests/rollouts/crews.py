"""Runs whose rollouts are in this process or in worker processes, with the same scripted model."""

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import anyio

from envhub.contracts.context import Context
from envhub.contracts.engine import Model
from envhub.contracts.environment import Environment, Observation, Resume, StepResult
from envhub.contracts.events import RunStarted
from envhub.contracts.ids import TRAINED, PolicyId, RunId, attempt_of
from envhub.contracts.members import MemberState
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.store import TraceStore
from envhub.contracts.task import Task
from envhub.engines.scripted import ScriptedEngine, ScriptInput
from envhub.environments.pool import EnvironmentPool
from envhub.errors import EngineFault
from envhub.registry import environment
from envhub.rollouts.admission import Slots
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.manager import Origin, open_manager
from envhub.rollouts.outlet import OwnConsumer
from envhub.rollouts.pause import Pauses
from envhub.rollouts.platform import Platform, ServedPolicy
from envhub.rollouts.posts import Posts
from envhub.rollouts.process_workers import HERE, ProcessWorkers, SharedPauses, open_process_workers
from envhub.rollouts.recorder import Recording, open_recorder
from envhub.rollouts.staffing import Bounds
from envhub.rollouts.team import Crew
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import LocalWorker
from envhub.store.memory_store import MemoryTraceStore
from envhub.testing.runs import LiveRun
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer
from envhub.tokens.chat import ChatRenderer
from tests.rollouts import abacus, ranked_worlds, worlds  # noqa: F401 - worker processes find their environments here

FACTORY = f"{__name__}:scripted_platform"


@dataclass(frozen=True, slots=True)
class CrewRun(LiveRun):
    workers: LocalWorker | ProcessWorkers

    async def ended(self, request: GroupRequest) -> RolloutGroup:
        """A group that was handed on, or given up."""
        group = await self.manager.start(request)
        await group.handed_on.wait()
        return group

    async def states(self, group: RolloutGroup) -> Counter[MemberState]:
        """Where its members are."""
        await self.recorder.flush()
        summaries = await self.store.groups(self.id)
        return Counter(next(one.members for one in summaries if one.group_id == group.id))


def answer(asked: ScriptInput) -> str:
    """Words that the seed decides, from wherever the prompt stops."""
    said = asked.prompt.rpartition("<|im_start|>assistant\n")[2]
    number = said[:3] or f"{asked.seed % 1000:03}"  # a turn that goes on has another seed
    return f"{number} is what the seed says"[len(said) :]


@asynccontextmanager
async def scripted_platform(settings: bytes, recorder: Recording) -> AsyncIterator[Platform]:
    """`settings`: seconds a turn, and a limit of rollouts that act."""
    latency_s, max_running = settings.decode().split()
    tokenizer = ByteTokenizer()
    engine = ScriptedEngine(answer, tokenizer, latency_s=float(latency_s))
    model = Model("scripted", engine, tokenizer, CHATML_TEMPLATE)
    slots = Slots(int(max_running))
    policies = {TRAINED: ServedPolicy(model, ChatRenderer.of(model))}
    yield Platform(policies, EnvironmentPool(), slots, recorder, Pauses())


def deadly(settings: bytes, recorder: Recording) -> NoReturn:
    """A platform that can't be had."""
    os._exit(7)


@asynccontextmanager
async def open_crew_run(
    processes: int,
    *,
    latency_s: float = 0.001,
    max_running: int = 16,
    hang_s: float = 60.0,
    idle_s: float = 60.0,
    max_processes: int = 0,
    store: TraceStore | None = None,
    factory: str = FACTORY,
    settings: bytes = b"",
    posts: Posts = HERE,
) -> AsyncIterator[CrewRun]:
    """A run over so many worker processes, or up to `max_processes`, at those posts; over none, in this one. `settings`
    are for another factory than ours."""
    store = store or MemoryTraceStore()
    id = RunId("test")
    settings = settings or f"{latency_s} {max_running}".encode()
    await store.append([RunStarted(id, 0.0, 0, {})])
    async with AsyncExitStack() as stack:
        recorder = await stack.enter_async_context(open_recorder(store))
        workers: LocalWorker | ProcessWorkers
        if processes:
            bounds = Bounds(processes, max_processes or processes)
            crew = Crew(bounds, factory, settings, [TRAINED, PolicyId("frozen")], hang_s, idle_s)
            workers = await stack.enter_async_context(open_process_workers(crew, recorder, SharedPauses(), posts))
        else:
            platform = await stack.enter_async_context(scripted_platform(settings, recorder))
            workers = LocalWorker(platform)
        manager = await stack.enter_async_context(
            open_manager(Origin(id, 0), workers, recorder, OwnConsumer(recorder), Versions(), max_groups=1_000)
        )
        yield CrewRun(id, store, recorder, manager, workers)


class Flaky(Environment):
    """Breaks in a member's first try."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        if attempt_of(ctx.rollout_id) == 0:
            raise EngineFault("down")
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        return StepResult(reward=1.0, terminated=True)


@environment("test/flaky-v0", tasks=[Task.ask("walk", id="one")])
def flaky() -> Environment:
    return Flaky()


class Race(Environment):
    """Only the first two members of a group arrive."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._arrives = int(ctx.rollout_id.split("-")[-2]) < 2  # RUN-GROUP-MEMBER-TRY
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if not self._arrives:
            await anyio.sleep_forever()
        return StepResult(reward=1.0, terminated=True)


@environment("test/race-v0", tasks=[Task.ask("run", id="one")])
def race() -> Environment:
    return Race()


class Poison(Environment):
    """Kills the process that it runs in."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        await anyio.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


@environment("test/poison-v0", tasks=[Task.ask("walk", id="one")])
def poison() -> Environment:
    return Poison()


class Long(Environment):
    """Ten steps with a little time between them."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._left = 10
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        self._left -= 1
        return StepResult(Observation((Message.user("go on"),)), reward=1.0, terminated=self._left == 0)


for way in Resume:
    environment(f"test/long-{way}-v0", tasks=[Task.ask("walk", id="one")], resume=way)(Long)


@environment("test/single-v0", tasks=[Task.ask("walk", id="one")], max_live=1)
def single() -> Environment:
    return Long()
