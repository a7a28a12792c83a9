"""Judges that ask policies and start rollouts, in runs: what they cost, what is recorded, and what goes wrong."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from uuid import uuid4

import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.events import RolloutStarted, TurnRecorded
from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion
from envhub.contracts.judge import GroupJudge, Judge
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.policy import Action
from envhub.contracts.rollout import Limits
from envhub.contracts.sandbox import SandboxSpec
from envhub.contracts.task import Task
from envhub.engines.scripted import ScriptedEngine, ScriptInput
from envhub.environments.single_turn import SingleTurn
from envhub.errors import Boundary
from envhub.monitor.verify import verify
from envhub.registry import environment
from envhub.testing.fake_sandbox import FakeBackend
from envhub.testing.runs import ScriptedRun, open_scripted_run, request
from envhub.tokens.byte_tokenizer import ByteTokenizer
from judges import component, exact
from judges.agent import AgentJudge
from judges.pairwise import Pairwise
from judges.rubric import RubricJudge
from judges.rubrics import Criterion, Rubric
from judges.toggle import Toggle
from sandboxes.pool.limits import PoolLimits
from sandboxes.pool.pool import Pool, open_pool
from tests.judges.court import bench

pytestmark = pytest.mark.anyio

RUBRIC = Rubric((Criterion("quality", "is good"),))
KEY = re.compile(r'"verdict": "([0-9a-f]{16})"')
SPEC = SandboxSpec(memory_mb=256)
ANSWERS = ("ok", "fine", "splendid")


def registered(judge: Judge, group_judge: GroupJudge | None = None) -> str:
    """An environment with these judges."""
    id = f"test/court-{uuid4().hex}-v0"
    environment(id, tasks=[Task.ask("Say something.", "splendid")], group_judge=group_judge)(lambda: SingleTurn(judge))
    return id


def verdict(asked: ScriptInput) -> str:
    """Marks by length, ten letters being best; of two works the longer one is better."""
    key = KEY.findall(asked.prompt)[-1]
    works = [len(text) for text in re.findall(r"\[assistant \w+\]\n\| (.*)\n", asked.prompt)]
    if '"better": CHOICE' in asked.prompt:
        return f'{{"verdict": "{key}", "better": "{"first" if works[0] > works[1] else "second"}"}}'
    return f'So many letters.\n{{"verdict": "{key}", "scores": {{"quality": {works[0]}}}}}'


def silent(asked: ScriptInput) -> str:
    return "No comment."


@asynccontextmanager
async def court(reply: Callable[[ScriptInput], str], pool: Pool | None = None) -> AsyncIterator[ScriptedRun]:
    """A run whose policy says one of three things, and whose policy `judge` replies so."""
    engines = {PolicyId("judge"): ScriptedEngine(reply, ByteTokenizer())}
    async with open_scripted_run(lambda asked: ANSWERS[asked.seed % 3], engines=engines, sandboxes=pool) as run:
        yield run
        assert (await verify(run.store)).findings == ()


async def test_a_rubric_judge_is_recorded_frozen_and_on_a_budget_of_its_own() -> None:
    async with court(verdict) as run:
        (outcome,) = await run.play(request(registered(RubricJudge(RUBRIC, bench())), limits=Limits(max_turns=1)))
        turns = [event.turn for event in await run.events() if isinstance(event, TurnRecorded)]
    assert outcome.score is not None
    assert outcome.score.components["quality"] == len(outcome.response) / 10
    assert outcome.score.explanation == "So many letters."
    mine, judges = turns
    assert [span.trainable for span in (*mine.spans, *judges.spans)] == [True, False]
    assert (judges.policy_id, judges.sampling.temperature) == ("judge", 0.0)
    assert outcome.score.components["tokens"] == len(judges.delta_ids) + len(judges.output_ids)
    assert (outcome.usage.turns, outcome.usage.policy_tokens) == (2, len(mine.output_ids))


async def test_a_judge_without_a_verdict_fails_the_member_and_is_never_a_reward() -> None:
    async with court(silent) as run:
        (outcome,) = await run.play(request(registered(RubricJudge(RUBRIC, bench(max_tries=2)))))
    assert (outcome.status, outcome.score) == (Status.FAILED, None)
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.JUDGE
    assert "policy 'judge' gave no verdict in 2 replies" in outcome.failure.message
    assert outcome.usage.turns == 3


async def test_a_group_gets_win_rates_and_keeps_its_own_scores() -> None:
    own = component("same", exact)
    async with court(verdict) as run:
        outcomes = await run.play(request(registered(own, Pairwise(RUBRIC, bench())), k=4))
    by_length = sorted(outcomes, key=lambda outcome: len(outcome.response))
    rates = [outcome.reward for outcome in by_length]
    assert rates == sorted(rates, key=float)
    assert sum(map(float, rates)) == pytest.approx(2.0)


async def test_toggle_keeps_its_budget_for_the_run_and_goes_by_announced_versions() -> None:
    toggle = Toggle(phase=1, threshold=0.0, percentile=0)
    mark = RubricJudge(Rubric((Criterion("quality", "is good"),), best=8), bench())  # splendid has full marks
    async with court(verdict) as run:
        group = replace(request(registered(mark, toggle), k=8))
        first = await run.play(group)
        await run.manager.announce(TRAINED, PolicyVersion(1))
        second = await run.play(group)
    budgets = {outcome.score.components.get("budget") for outcome in (*first, *second) if outcome.score}
    assert budgets == {len("splendid") + 1.0}
    assert [
        {outcome.score.components["limited"] for outcome in group if outcome.score} for group in (first, second)
    ] == [
        {1.0},
        {0.0},
    ]


class Writes(Environment):
    """The agent writes its answer into its sandbox."""

    def __init__(self, judge: Judge) -> None:
        self.judge = judge

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx = ctx
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        sandbox = await self._ctx.sandbox(SPEC)
        await sandbox.write("answer", action.message.content.encode())
        return StepResult(terminated=True)


class Looks(Environment):
    """The judge reads the file and spoils it, then is asked for its verdict."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._ctx, self._looked = ctx, False
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._looked:
            return StepResult(terminated=True)
        self._looked = True
        sandbox = await self._ctx.sandbox()
        read = await sandbox.read("answer")
        await sandbox.write("answer", b"spoilt")
        return StepResult(Observation((Message.user(f"The file says {read.decode()}."),)))


environment("test/looks-v0", tasks=[Task.ask("?")])(Looks)


def looks(asked: ScriptInput) -> str:
    """Looks first, then gives what the file is worth."""
    found = re.findall(r"The file says (\w+)\.", asked.prompt)
    if not found:
        return "I look."
    key = KEY.findall(asked.prompt)[-1]
    return f'It says {found[-1]}.\n{{"verdict": "{key}", "scores": {{"quality": {len(found[-1])}}}}}'


async def written(
    judge: Judge, reply: Callable[[ScriptInput], str]
) -> tuple[Outcome, list[RolloutStarted], FakeBackend]:
    id = f"test/writes-{uuid4().hex}-v0"
    environment(id, tasks=[Task.ask("Write.")], needs_sandbox=True)(lambda: Writes(judge))
    backend = FakeBackend()
    async with open_pool(backend, PoolLimits(4)) as pool, court(reply, pool) as run:
        (outcome,) = await run.play(request(id))
        started = [event for event in await run.events() if isinstance(event, RolloutStarted) and event.parent]
    return outcome, started, backend


async def test_an_agent_judges_in_a_fork_of_the_sandbox_as_a_frozen_child() -> None:
    judge = AgentJudge("test/looks-v0", RUBRIC, place=SPEC, bench=bench(), limits=Limits(max_turns=3))
    outcome, (child,), _ = await written(judge, looks)
    assert outcome.score is not None
    assert outcome.score.scalar == len(outcome.response) / 10
    assert outcome.score.components.keys() == {"quality", "steps", "tokens"}
    assert outcome.score.components["steps"] == 2
    assert outcome.score.explanation == f"It says {outcome.response}."
    assert (child.for_judge, child.request.trainable, child.request.policy_id) == (True, False, "judge")
    assert child.request.limits == Limits(max_turns=3)
    assert outcome.usage.tree_steps == 1
    assert all(not span.trainable for row in outcome.children[0].trajectory.rows for span in row.spans)


async def test_an_agent_without_a_verdict_is_followed_by_another_and_then_by_a_failure() -> None:
    outcome, started, _ = await written(
        AgentJudge("test/looks-v0", RUBRIC, place=SPEC, bench=bench(max_tries=2)), silent
    )
    assert (outcome.status, outcome.score, len(started)) == (Status.FAILED, None, 2)
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.JUDGE
    assert "2 rollouts of 'test/looks-v0' gave no verdict" in outcome.failure.message


async def test_an_agent_that_fails_or_is_cut_says_so() -> None:
    empty, _, _ = await written(AgentJudge("test/looks-v0", RUBRIC, bench=bench(max_tries=1)), looks)
    cut, _, _ = await written(
        AgentJudge("test/looks-v0", RUBRIC, place=SPEC, bench=bench(max_tries=1), limits=Limits(max_turns=1)), looks
    )
    assert empty.failure is not None and cut.failure is not None
    assert "it failed (environment): " in empty.failure.message  # without `place` there is no such file
    assert "it was cut (turns): " in cut.failure.message
