"""Reward functions in processes that are killed at their timeout."""

import os
import time

import anyio
import pytest

from envhub.contracts.task import Task
from envhub.errors import Boundary, JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered, scored
from judges import component, number
from judges.in_process import InProcess
from tests.judges import misbehaved
from tests.judges.court import wrote

pytestmark = pytest.mark.anyio

SEVEN = Task.ask("What is 3 + 4?", 7)


class TestInProcess(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return InProcess(number)

    @pytest.fixture
    def gold(self):
        return answered(SEVEN, "7")

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "8")


async def test_what_the_function_gives_comes_back_from_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENVHUB_SECRET", "x")
    score = await scored(InProcess(misbehaved.tells), wrote("rain"))
    assert (score.scalar, score.explanation, score.durations) == (0.25, "\ud800 rain", {"part": 0.5})
    assert score.components["pid"] != os.getpid()
    assert score.components["secret"] == 0


async def test_a_whole_expression_may_run_there() -> None:
    reward = InProcess(0.5 * component("seven", number) + 0.25)
    assert (await scored(reward, answered(SEVEN, "7"))).scalar == 0.75
    assert (await scored(component("there", reward) * 2, answered(SEVEN, "8"))).scalar == 0.5


@pytest.mark.parametrize("function", [misbehaved.hangs, misbehaved.holds_the_gil])
async def test_a_function_that_does_not_end_is_killed_and_is_a_failure_of_the_judge(function) -> None:
    judge = InProcess(function, timeout_s=0.2)
    await scored(InProcess(misbehaved.tells), wrote("rain"))  # the processes are there
    began = time.perf_counter()
    with pytest.raises(JudgeFault, match=r"killed after 0\.2 s") as caught:
        await scored(judge, wrote("rain"))
    assert caught.value.boundary is Boundary.JUDGE
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (misbehaved.dies, "died"),
        (misbehaved.raises, "ZeroDivisionError: of all things"),
        (misbehaved.exits, "SystemExit"),
        (misbehaved.gives_nan, "must give finite numbers"),
    ],
)
async def test_a_function_that_fails_is_a_failure_of_the_judge(function, why: str) -> None:
    with pytest.raises(JudgeFault, match=why):
        await scored(InProcess(function), wrote("rain"))
    assert (await scored(InProcess(misbehaved.tells), wrote("rain"))).scalar == 0.25


async def test_the_loop_goes_on_meanwhile() -> None:
    lags: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.005)
            lags.append(time.perf_counter() - before - 0.005)

    judge, hung = InProcess(misbehaved.Sleeps(0.01)), InProcess(misbehaved.holds_the_gil, timeout_s=0.3)
    await scored(judge, wrote("rain"))
    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as judging:
            for _ in range(40):
                judging.start_soon(scored, judge, wrote("rain"))
            with pytest.raises(JudgeFault):
                await scored(hung, wrote("rain"))
        watching.cancel_scope.cancel()
    assert sorted(lags)[len(lags) // 2] < 0.1  # of the 0.3 s that the other one holds its interpreter


async def test_a_judging_that_is_cancelled_is_not_waited_for() -> None:
    began = time.perf_counter()
    with anyio.move_on_after(0.1):
        await scored(InProcess(misbehaved.hangs, timeout_s=60.0), wrote("rain"))
    assert time.perf_counter() - began < 10


def test_a_function_that_can_not_be_sent_is_refused_when_it_is_written() -> None:
    with pytest.raises(UsageError, match="can't run in another process"):
        InProcess(lambda input: 1.0)
    with pytest.raises(UsageError, match="timeout_s of InProcess is 0"):
        InProcess(number, timeout_s=0)


def test_a_function_of_the_script_that_runs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    monkeypatch.setattr(misbehaved.raises, "__module__", "__main__")
    monkeypatch.setattr(__main__, "raises", misbehaved.raises, raising=False)
    with pytest.raises(UsageError, match="stands in the script that runs"):
        InProcess(misbehaved.raises)
