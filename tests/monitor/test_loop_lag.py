"""Whoever holds the event loop is named, in the trace too; nobody is where all is well."""

import logging
import re
import threading
import time
from collections.abc import Iterator

import anyio
import pytest

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, StepResult
from envhub.contracts.events import LogRecorded
from envhub.contracts.messages import ToolCall
from envhub.contracts.policy import Action
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.environments.tool_environment import ToolEnvironment
from envhub.monitor import loop_lag
from envhub.monitor.loop_lag import LoopLag, watch_loop
from envhub.registry import agents, environment
from envhub.testing.runs import open_scripted_run, request
from envhub.tokens.call_forms import HERMES
from envhub.toolsets.tool import tool
from envhub.toolsets.toolset import Toolset

pytestmark = pytest.mark.anyio

HELD_S = 0.4
SLOW_PATTERN, TEXT = re.compile("(a+)+b"), "a" * 24  # some seconds that an extension keeps the GIL


def hold(seconds: float = HELD_S) -> None:
    time.sleep(seconds)


class Blocking(Environment):
    """Holds the loop where its task says."""

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        self._where = task.id
        if self._where == "judge":
            self.judge = BlockingJudge()
        if self._where == "reset":
            hold()
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        if self._where == "step":
            hold()
        if self._where == "quick":
            hold(0.01)
        if self._where == "gil":
            SLOW_PATTERN.match(TEXT)
        return StepResult(reward=1.0, terminated=True)

    async def close(self) -> None:
        if self._where == "close":
            hold()


class BlockingJudge:
    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        hold()
        return Score(1.0)


class BlockingTools(Toolset):
    @tool
    async def block(self) -> str:
        """Block."""
        hold()
        return "done"


class BlockingAgent:
    async def run(self, environment: Environment, observation: Observation, ctx: Context) -> None:
        hold()


agents.register("test-blocking", BlockingAgent)
PLACES = ("reset", "step", "quick", "gil", "judge", "close", "nowhere")


@environment("test/blocking-v0", tasks=[Task.ask("go", id=where) for where in PLACES])
def blocking(at_once: bool = False) -> Environment:
    return Blocking()


@environment("test/blocking-tools-v0", tasks=[Task.ask("go")])
def blocking_tools() -> Environment:
    return ToolEnvironment(BlockingTools, lambda input: 1.0)


@environment("test/blocking-factory-v0", tasks=[Task.ask("go", id="nowhere")])
def blocking_factory() -> Environment:
    hold()
    return Blocking()


async def watched(group, calls: int = 0) -> tuple[LoopLag, list[LogRecorded]]:
    answers: Iterator[str] = iter([HERMES.write(*[ToolCall("", "block", {})] * calls)] if calls else [])
    async with (
        open_scripted_run(lambda asked: next(answers, "go"), max_running=64, latency_s=0.1) as run,
        watch_loop() as watch,
    ):
        await anyio.sleep(loop_lag.BEAT_S)
        await run.play(group)
        await anyio.sleep(2 * loop_lag.BEAT_S)
        logs = [event for event in await run.events() if isinstance(event, LogRecorded)]
    return watch.total, logs


def at(where: str, **changes: object):
    return request("test/blocking-v0", task=PLACES.index(where), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "calls", "named"),
    [
        (at("reset"), 0, "environment 'test/blocking-v0'"),
        (at("step"), 0, "environment 'test/blocking-v0'"),
        (at("judge"), 0, "judge BlockingJudge of test/blocking-v0"),
        (at("close"), 0, "close() of environment Blocking"),
        (at("nowhere", agent="test-blocking"), 0, "agent 'test-blocking' of test/blocking-v0"),
        (request("test/blocking-tools-v0"), 1, "tool 'block' of test/blocking-tools-v0"),
        (request("test/blocking-tools-v0"), 2, "tool 'block' of test/blocking-tools-v0"),
        (request("test/blocking-factory-v0"), 0, "environment 'test/blocking-factory-v0'"),
    ],
    ids=["reset", "step", "judge", "close", "agent", "tool", "tools", "factory"],
)
async def test_code_that_holds_the_loop_is_named(group, calls: int, named: str) -> None:
    lag, _ = await watched(group, calls)
    assert lag.worst is not None
    assert str(lag.worst.culprit) == named
    assert "test_loop_lag.py:" in lag.worst.culprit.where
    assert lag.max_s > 0.25
    assert f"in {named}" in str(lag)


async def test_a_rollout_whose_code_held_the_loop_says_so_in_its_trace() -> None:
    async with open_scripted_run(lambda asked: "go", latency_s=0.2) as run, watch_loop():
        await anyio.sleep(loop_lag.BEAT_S)
        await run.play(at("judge", k=3))  # three stalls of the same culprit
        await run.play(at("reset"))
        logs = [event for event in await run.events() if isinstance(event, LogRecorded)]
    reset = next(log for log in logs if log.rollout_id.startswith("test-1"))
    assert reset.message == "held the event loop"
    assert reset.fields["by"] == "environment 'test/blocking-v0'"
    assert float(str(reset.fields["seconds"])) > 0.25
    assert len([log for log in logs if "judge" in str(log.fields["by"])]) <= 1


async def test_nobody_is_named_where_the_loop_is_on_time() -> None:
    lag, logs = await watched(at("nowhere", k=20))
    assert lag.worst is None
    assert not logs
    assert "worst" not in str(lag)


async def test_many_quick_calls_in_one_tick_are_nobodys_fault() -> None:
    lag, _ = await watched(at("quick", k=40))
    assert lag.max_s > 0.25
    assert lag.worst is None


async def test_an_extension_that_keeps_all_threads_from_running_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_lag, "cpu_clock", lambda: time.monotonic)  # it always computes
    lag, _ = await watched(at("gil"))
    assert lag.worst is not None
    assert str(lag.worst.culprit) == "environment 'test/blocking-v0'"


async def test_a_loop_that_stands_still_is_told_of_while_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop_lag, "STANDS_STILL_S", 0.15)
    with caplog.at_level(logging.WARNING):
        await watched(at("step"))
    assert "the event loop stands still" in caplog.text
    assert "environment 'test/blocking-v0'" in caplog.text


async def test_no_thread_is_left_of_a_watch() -> None:
    async with watch_loop():
        assert any(thread.name == "envhub-loop-watch" for thread in threading.enumerate())
    for thread in threading.enumerate():
        if thread.name == "envhub-loop-watch":
            thread.join(1)
            assert not thread.is_alive()
