import random

import pytest

from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.environments import SingleTurn, ToolEnvironment
from envhub.environments.check import Finding, check, preflight
from envhub.environments.check_gold import validate
from envhub.errors import UsageError
from envhub.toolsets import Toolset, tool
from judges import number
from judges.rubric import RubricJudge

pytestmark = pytest.mark.anyio


async def finding(spec, name: str) -> Finding:
    report = await check(spec)
    found = {finding.name: finding for finding in report.findings}
    assert report.ok == all(each.ok for each in report.findings)
    return found[name]


class Forgetful(Toolset):
    @tool
    async def find(self, what: str) -> str:
        return what


class Moody(SingleTurn):
    async def reset(self, task, *, seed, ctx):
        return Observation((*task.prompt, *task.prompt)[: random.randint(1, 2)])


class Silent(SingleTurn):
    async def reset(self, task, *, seed, ctx):
        return Observation()


class Crashing(SingleTurn):
    async def step(self, action):
        return StepResult(reward=1 / len(action.message.content), terminated=True)


class OneShot(SingleTurn):
    closed = False

    async def close(self):
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


class AsksAModel:
    async def score(self, input: JudgeInput, ctx) -> Score:
        ctx.policy()
        raise AssertionError("never reached")


def nan(input: JudgeInput) -> float:
    return float("nan")


def broken(input: JudgeInput) -> float:
    raise KeyError("rubric")


async def test_good_environment_passes(register):
    report = await check(register(lambda: SingleTurn(number)))
    assert report.ok
    assert [each.name for each in report.findings] == [
        "tasks",
        "tools",
        "reset",
        "empty answer",
        "gold answer",
        "close",
    ]


async def test_random_reset_is_found(register, monkeypatch):
    lengths = iter([1, 2] * 10)
    monkeypatch.setattr(random, "randint", lambda low, high: next(lengths))
    found = await finding(register(lambda: Moody(number)), "reset")
    assert "two resets with one task and one seed differ" in found.message


@pytest.mark.parametrize(
    ("factory", "name", "said"),
    [
        (lambda: Silent(number), "reset", "no message with content"),
        (lambda: Crashing(number), "empty answer", "ZeroDivisionError"),
        (lambda: OneShot(number), "close", "RuntimeError: closed twice"),
        (lambda: SingleTurn(nan), "empty answer", "score 'scalar' is nan"),
        (lambda: SingleTurn(broken), "gold answer", "KeyError: 'rubric'"),
        (lambda: SingleTurn(lambda input: 0.5), "gold answer", "its own answer '7' scores 0.5, not 1"),
        (lambda: ToolEnvironment(Forgetful, number), "tools", "tool 'find' has no description"),
        (lambda: 1 / 0, "tools", "ZeroDivisionError"),
    ],
)
async def test_what_is_wrong_is_found(register, factory, name: str, said: str):
    found = await finding(register(factory), name)
    assert not found.ok
    assert said in found.message


async def test_no_tasks_ends_the_check(register):
    report = await check(register(lambda: SingleTurn(number), tasks=[]))
    assert not report.ok
    assert [each.name for each in report.findings] == ["tasks"]
    assert "has no tasks" in report.findings[0].message


async def test_judge_that_needs_the_platform_is_not_blamed(register):
    report = await check(register(lambda: SingleTurn(AsksAModel())))
    assert report.ok
    assert "not applied" in {each.name: each for each in report.findings}["gold answer"].message


async def test_preflight_gives_the_tasks(register):
    spec = register(lambda: SingleTurn(number))
    assert await preflight(spec) == spec.load_tasks()


@pytest.mark.parametrize(
    ("factory", "tasks", "said"),
    [
        (lambda: SingleTurn(number), [], "has no tasks"),
        (lambda: SingleTurn(nan), [Task.ask("3 + 4?", 7)], "gold answer: score 'scalar' is nan"),
        (lambda: SingleTurn(broken), [Task.ask("3 + 4?", 7)], "gold answer: KeyError: 'rubric'"),
        (lambda: SingleTurn(number), [Task.ask("3 + 4?", "seven")], "needs a finite number"),
        (lambda: 1 / 0, [Task.ask("3 + 4?", 7)], "tools: ZeroDivisionError"),
    ],
)
async def test_preflight_refuses_what_cannot_run(register, factory, tasks, said: str):
    with pytest.raises(UsageError, match="test/it-v0") as caught:
        await preflight(register(factory, tasks=tasks))
    assert said in str(caught.value)


async def test_low_marks_for_the_gold_answer_do_not_stop_a_run(register):
    await preflight(register(lambda: SingleTurn(lambda input: 0.5)))


async def test_environment_whose_steps_pay_has_no_gold_answer(register):
    class Paying(Environment):
        async def reset(self, task, *, seed, ctx):
            return Observation(task.prompt)

        async def step(self, action):
            return StepResult(reward=0.25, terminated=True)

    found = await finding(register(Paying), "gold answer")
    assert found.ok and "not applied" in found.message


async def test_a_judge_that_says_whose_fault_a_missing_platform_is_can_run(register):
    """RubricJudge asks side by side, within a boundary of its own: what it is refused reaches us as its Fault."""
    spec = register(lambda: SingleTurn(RubricJudge()))
    assert await preflight(spec) == spec.load_tasks()
    report = await validate(spec)
    assert "not applied: it needs a platform (policy)" in report.findings[0].message
