"""Mathematics: equal however it is written, and never for longer than the timeout."""

import time

import pytest

from envhub.contracts.task import Task
from envhub.errors import JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import Maths

HALF = Task.ask("1 - 1/2?", r"\frac{1}{2}")


class TestMaths(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return Maths()

    @pytest.fixture
    def gold(self):
        return answered(HALF, r"One half: \boxed{0.5}")

    @pytest.fixture
    def wrong(self):
        return answered(HALF, r"\boxed{\frac{1}{3}}")


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        (r"\frac{1}{2}", r"\frac{1}{2}", 1.0),
        ("1/2", "the answer is 0.5", 1.0),
        ("7", "7", 1.0),
        (7, r"\boxed{7.0}", 1.0),
        (0.25, r"\boxed{\frac14}", 1.0),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}", 1.0),
        (r"\sqrt{2}", r"\boxed{1.4142}", 0.0),
        ("x^2+2x+1", "$(x+1)^2$", 1.0),
        ("x^2+2x+1", "$(x-1)^2$", 0.0),
        ("(1,2)", r"\boxed{(1, 2)}", 1.0),
        ("(1,2)", r"\boxed{(2, 1)}", 0.0),
        (r"\{1,2\}", r"\boxed{\{2,1\}}", 1.0),
        ("[0,1)", r"\boxed{[0,1)}", 1.0),
        ("[0,1)", r"\boxed{[0,1]}", 0.0),
        (r"\infty", r"\boxed{\infty}", 1.0),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\boxed{\begin{pmatrix}1\\2\end{pmatrix}}", 1.0),
        (r"50\%", r"\boxed{0.5}", 1.0),
        (r"\frac{\pi}{3}", r"so it is $\pi/3$", 1.0),
        ("12", r"\boxed{11} wait, \boxed{12}", 1.0),
        ("12", r"\boxed{12} wait, \boxed{11}", 0.0),
        ("9" * 200, "9" * 199 + "8", 0.0),
    ],
)
def test_equal_is_equal_however_it_is_written(answer: object, response: str, correct: float):
    assert Maths()(answered(Task.ask("?", answer), response)).scalar == correct


@pytest.mark.parametrize("response", [r"\boxed{9^{9^{9^{9}}}}", r"\boxed{10000000!}"])
def test_a_response_that_takes_for_ever_is_wrong_and_says_so(response: str):
    judge = Maths(timeout_s=1)
    judge(answered(HALF, "1"))  # a worker is there
    start = time.monotonic()
    score = judge(answered(HALF, response))
    assert time.monotonic() - start < 10
    assert (score.scalar, score.components["timed_out"]) == (0.0, 1.0)
    assert "killed after 1 s" in score.explanation


def test_an_answer_of_the_task_that_takes_for_ever_is_a_fault():
    with pytest.raises(JudgeFault, match=r"its own answer .* can't be compared: killed after 1 s"):
        Maths(timeout_s=1)(answered(Task.ask("?", r"10000000!"), "7"))


@pytest.mark.parametrize("answer", [None, True, [1], "", " ", "???"])
def test_an_answer_that_is_no_expression_is_the_tasks_fault(answer: object):
    with pytest.raises(UsageError, match="has the answer"):
        Maths()(answered(Task.ask("?", answer), "7"))


@pytest.mark.parametrize(
    "response", ["__import__('os').system('touch {}')", r"\boxed{{__import__('os').system('touch {}')}}"]
)
def test_a_response_is_not_run(response: str, tmp_path):
    assert Maths()(answered(HALF, response.format(tmp_path / "it"))).scalar == 0.0
    assert not (tmp_path / "it").exists()


def test_a_timeout_is_positive():
    with pytest.raises(UsageError, match="must be positive"):
        Maths(timeout_s=0)
