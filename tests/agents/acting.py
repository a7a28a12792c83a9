"""A run with a gateway, real sandboxes and a scripted model, for programs that others wrote."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from envhub.agents.black_box import BlackBoxAgent
from envhub.agents.programs import Program
from envhub.contracts.command import ExecRequest
from envhub.contracts.context import Context
from envhub.contracts.engine import Engine
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.outcome import Outcome
from envhub.contracts.policy import Action
from envhub.contracts.rollout import Limits
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.engines.scripted import Script, ScriptedEngine
from envhub.environments.opening import opening
from envhub.gateway.app import create_app
from envhub.gateway.sessions import Sessions
from envhub.http_server import listen, serve
from envhub.monitor.verify import verify
from envhub.registry import agents, environment
from envhub.testing.runs import LiveRun, open_scripted_run, request
from sandboxes.bubblewrap.backend import BubblewrapBackend
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import open_pool

TASK = "Create a file greeting.txt that contains the word hello, then say that you are done."
SAMPLING = Sampling(max_tokens=2000)
ROOM = {"deadline_s": 120.0, "max_tokens": 100_000, "max_turns": 50}
numbers = count()
PLACE = SandboxSpec(memory_mb=2048, pids=256, disk_mb=256)


class HasGreeted:
    """Whether the file is there and says hello."""

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        async with ctx.fork() as fork:
            seen = await fork.exec(ExecRequest(("cat", "greeting.txt")))
        return Score(float(seen.stdout.strip() == b"hello"))


@environment("tests/greeting-v0", tasks=[Task.ask(TASK, id="greet")], needs_sandbox=True)
class Greeting(Environment):
    """A file to be made, by whatever means."""

    judge = HasGreeted()
    sandbox = PLACE

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        await ctx.sandbox(self.sandbox)
        return Observation(opening(task))

    async def step(self, action: Action) -> StepResult:
        return StepResult(terminated=True)


@asynccontextmanager
async def acting(script: Script) -> AsyncIterator[LiveRun]:
    """A run whose programs' model answers what the script writes."""
    backend = BubblewrapBackend()
    with listen() as listener:
        sessions = Sessions(listener.url)
        async with (
            serve(create_app(sessions), listener),
            open_pool(backend, PoolLimits(max_live=4)) as pool,
            open_scripted_run(script, sandboxes=pool, endpoints=sessions, around=with_room) as run,
        ):
            yield run


def with_room(engine: Engine) -> Engine:
    """The engine with a context for the prompts that programs send: a byte is a token here."""
    assert isinstance(engine, ScriptedEngine)
    engine.context_tokens = 4_000_000
    return engine


async def play(run: LiveRun, program: Program, environment: str = "tests/greeting-v0", **limits: float) -> Outcome:
    """The outcome of a rollout that the program drives, whose trace is as it must be."""
    name = f"{program.name}-{next(numbers)}"  # a name is registered once
    agents.register(name, lambda: BlackBoxAgent(program))
    asked = request(environment, agent=name, sampling=SAMPLING, limits=Limits(**{**ROOM, **limits}))
    (outcome,) = await run.play(asked)
    assert not (await verify(run.store, run.id)).findings
    return outcome
