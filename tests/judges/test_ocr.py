"""Text similarity, against the textbook's table of distances; and counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.task import Task
from envhub.errors import UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import Count, TextSimilarity
from judges.ocr import text_similarity
from tests.judges.linear import linear

SIGN = Task.ask("What does the sign say?", "Café  au\nlait")
CATS = Task.ask("How many cats?", 4)
TEXT = st.text("abé\U0001f600", max_size=8)


class TestTextSimilarity(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return TextSimilarity()

    @pytest.fixture
    def gold(self):
        return answered(SIGN, " Cafe\u0301 au lait ")

    @pytest.fixture
    def wrong(self):
        return answered(SIGN, "Cafe au lait")


class TestCount(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return Count()

    @pytest.fixture
    def gold(self):
        return answered(CATS, "I see 4 cats.")

    @pytest.fixture
    def wrong(self):
        return answered(CATS, "I see 3 cats.")


def distance(left: str, right: str) -> int:
    """Levenshtein's, row by row."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        above, row = row, [i]
        for j, b in enumerate(right, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(TEXT, TEXT)
def test_similarity_is_one_less_the_distance_over_the_longer(left: str, right: str):
    longer = max(len(left), len(right))
    assert text_similarity(left, right) == pytest.approx(1 - distance(left, right) / longer if longer else 1)


@given(TEXT, TEXT)
def test_similarity_is_bounded_and_symmetric(left: str, right: str):
    assert 0 <= text_similarity(left, right) == text_similarity(right, left) <= 1
    assert (text_similarity(left, right) == 1) == (left == right)


@pytest.mark.parametrize(
    ("left", "right", "similarity"),
    [("kitten", "sitting", 4 / 7), ("", "", 1), ("", "abc", 0), ("abc", "abcd", 3 / 4), ("abc", "xyz", 0)],
)
def test_a_table_of_similarities(left: str, right: str, similarity: float):
    assert text_similarity(left, right) == pytest.approx(similarity)


def test_white_space_and_case_count_where_asked_for():
    task = Task.ask("?", "A  b")
    assert TextSimilarity(spaces=True)(answered(task, "A b")).scalar == 0.75
    assert TextSimilarity()(answered(task, "a b")).scalar == pytest.approx(2 / 3)
    assert TextSimilarity(case=False)(answered(task, "a b")).scalar == 1.0


def test_an_enormous_response_is_nothing_in_no_time():
    long = Task.ask("?", "ab" * 32_768)
    with linear():
        assert TextSimilarity()(answered(SIGN, "x" * 10_000_000)).scalar == 0.0
        assert TextSimilarity()(answered(long, "ba" * 32_768)).scalar > 0.99


@pytest.mark.parametrize("answer", [None, 7, ["a"], "x" * 70_000])
def test_an_answer_that_is_no_text_is_the_tasks_fault(answer: object):
    with pytest.raises(UsageError, match="it must be a text"):
        TextSimilarity()(answered(Task.ask("?", answer), "a"))


@pytest.mark.parametrize(
    ("response", "closeness", "exact"),
    [
        ("4", 1.0, 1.0),
        ("4.0", 1.0, 1.0),
        ("3", 0.75, 0.0),
        ("5", 0.75, 0.0),
        ("8", 0.0, 0.0),
        ("800", 0.0, 0.0),
        ("-4", 0.0, 0.0),
        ("4.5", 0.0, 0.0),
        ("1e999", 0.0, 0.0),
        ("many", 0.0, 0.0),
    ],
)
def test_a_table_of_counts(response: str, closeness: float, exact: float):
    score = Count()(answered(CATS, response))
    assert (score.scalar, score.components["exact"]) == (closeness, exact)


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.floats(0.1, 10))
def test_a_count_further_off_never_scores_more(true: int, near: int, far: int, slack: float):
    task = Task.ask("?", true)
    near, far = sorted([near, far], key=lambda count: abs(count - true))
    scores = [Count(slack)(answered(task, str(count))).scalar for count in (near, far)]
    assert 0 <= scores[1] <= scores[0] <= 1


def test_none_at_all_is_a_count():
    assert Count()(answered(Task.ask("?", 0), "0")).scalar == 1.0
    assert Count(slack=2)(answered(Task.ask("?", 0), "1")).scalar == 0.5


@pytest.mark.parametrize("answer", [None, True, -1, 1.5, "4"])
def test_an_answer_that_is_no_count_is_the_tasks_fault(answer: object):
    with pytest.raises(UsageError, match="it must be a count"):
        Count()(answered(Task.ask("?", answer), "4"))


@pytest.mark.parametrize("slack", [0, -1, float("inf")])
def test_slack_is_positive(slack: float):
    with pytest.raises(UsageError, match="slack"):
        Count(slack)


@pytest.mark.parametrize("space", [" ", "  ", "\n", "\t", " \r\n", "\u00a0", "\u2003", "\u3000", "\x0b", "\x85"])
def test_white_space_of_every_kind_is_one_space_and_none_at_the_ends(space: str):
    task = Task.ask("?", "read me")
    for text in (f"read{space}me", f"{space}read me", f"read me{space}"):
        assert TextSimilarity()(answered(task, text)).scalar == 1.0
        assert TextSimilarity()(answered(Task.ask("?", text), "read me")).scalar == 1.0
    assert TextSimilarity(spaces=True)(answered(task, f"read me{space}")).scalar < 1.0
