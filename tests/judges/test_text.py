from decimal import Decimal

import pytest

from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import exact, number
from judges.text import last_number, numbers_in

SEVEN = Task.ask("What is 3 + 4?", 7)


class TestNumber(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return number

    @pytest.fixture
    def gold(self):
        return answered(SEVEN, "3 + 4 is 7.")

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "3 + 4 is 8.")


class TestExact(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return exact

    @pytest.fixture
    def gold(self):
        return answered(SEVEN, " 7\n")

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "7.")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The answer is 7.", "7"),
        ("1 + 1 = 2, so 3", "3"),
        ("$1,234,567.50!", "1234567.50"),
        ("1,2,3", "3"),
        ("1,2345", "2345"),
        ("it is -4", "-4"),
        ("it is −4", "-4"),
        ("x=-4", "-4"),
        ("10-4", "4"),
        ("(10)-4", "4"),
        ("3 - -4", "-4"),
        ("about .5", "0.5"),
        ("6.02e23", "6.02e23"),
        ("1e-3", "0.001"),
        ("50%", "50"),
        (r"\boxed{42}", "42"),
        ("007", "7"),
    ],
)
def test_last_number_is_read_as_people_write_it(text: str, found: str):
    assert last_number(text) == Decimal(found)


def test_text_without_a_number_has_none():
    assert last_number("- , . e seven") is None
    assert number(answered(SEVEN, "seven")) == Score(
        0.0, {"correct": 0.0, "answered": 0.0}, "no number in the response"
    )


def test_numbers_come_in_order():
    assert numbers_in("7, -3 and 1,000") == [7, -3, 1000]


@pytest.mark.parametrize(
    ("answer", "response", "correct"),
    [
        (7, "7.0", 1.0),
        (7, "7.0000001", 1.0),
        (7, "7.1", 0.0),
        (0.1, "0.1", 1.0),
        ("-1,234.5", "-1234.5", 1.0),
        (10**40, str(10**40 + 1), 0.0),
        (-5, "5", 0.0),
    ],
)
def test_answer_may_differ_by_the_tolerance_only(answer: object, response: str, correct: float):
    assert number(answered(Task.ask("?", answer), response)).scalar == correct


@pytest.mark.parametrize("answer", [None, True, [7], "seven", float("nan"), float("inf")])
def test_answer_that_is_no_number_is_the_tasks_fault(answer: object):
    with pytest.raises(UsageError, match=r"task '\?' has the answer .*; judge 'number' needs a"):
        number(answered(Task.ask("?", answer), "7"))


@pytest.mark.parametrize("answer", [None, True, [7]])
def test_exact_needs_an_answer_to_compare(answer: object):
    with pytest.raises(UsageError, match="judge 'exact' needs text or a number"):
        exact(answered(Task.ask("?", answer), "7"))


def test_only_the_last_message_of_the_assistant_counts():
    earlier = answered(SEVEN, "7")
    later = JudgeInput(SEVEN, (*earlier.messages, *answered(SEVEN, "no").messages))
    assert number(later).scalar == 0.0
