"""Where in a response the answer stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.task import Task
from envhub.errors import JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import Extracted, Pattern, after, boxed, exact, fenced, last_line, matches, number, tagged
from tests.judges.linear import linear

SEVEN = Task.ask("What is 3 + 4?", 7)


class TestTagged(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return Extracted(tagged("answer"), number)

    @pytest.fixture
    def gold(self):
        return answered(SEVEN, "3 + 4? <answer>8</answer>, no: <answer> 7 </answer> (not 9)")

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "7")


class TestPattern(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return Extracted(Pattern(r"Answer: (\S+)"), exact)

    @pytest.fixture
    def gold(self):
        return answered(SEVEN, "Answer: 8 ... Answer: 7 and so on")

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "Answer: 7 Answer: 8")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{7}", "7"),
        (r"\boxed{6}, or rather \boxed{7}.", "7"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {a\}b}", r"a\}b"),
        (r"\fbox{7}", "7"),
        (r"{ { \boxed{7}", "7"),
        (r"} \boxed{7}", "7"),
        (r"\boxed{\boxed{7}}", "7"),
        (r"\boxed{7} and \boxed{8", "7"),
        ("boxed{7}", None),
        ("", None),
    ],
)
def test_the_last_box_that_is_closed_counts(text: str, answer: str | None):
    assert boxed(text) == answer


@given(st.recursive(st.text("ab ", max_size=5), lambda inner: inner.map(lambda text: "{" + text + "}"), max_leaves=5))
def test_a_box_holds_whatever_is_balanced(content: str):
    assert boxed("x } \\boxed{" + content + "} y") == content.strip()


@pytest.mark.parametrize(
    ("extract", "text", "answer"),
    [
        (after("answer:"), "Answer: 7\nso", "7"),
        (after("answer:"), "answer: 6. ANSWER: 7", "7"),
        (after("answer:"), "Answer:\n7", None),
        (after("a.b"), "axb 7", None),
        (last_line, "6\n\n 7 \n\n", "7"),
        (last_line, " \n", None),
        (tagged("a"), "<a>7", None),
        (tagged("a"), "</a><a>", None),
        (tagged("a"), "<a></a>", ""),
        (fenced(), "```\n7\n```", "7\n"),
        (fenced("python"), "```python\n7\n```\n```sh\n8\n```", "7\n"),
        (fenced("python"), "```sh\n8\n```", None),
        (fenced(), "```a\n```b\n7\n```\n```", "```b\n7\n"),
        (fenced(), "```python\n7", None),
        (Pattern("x=([0-9]+)"), "x=6 x=7", "7"),
        (Pattern("[0-9]+"), "x=6 x=7", "7"),
        (Pattern("(a)|b"), "a b", None),
        (Pattern("é\\ud800"), "é\ud800", "é\ud800"),
    ],
)
def test_extractors_take_the_last(extract, text: str, answer: str | None):
    assert extract(text) == answer


@pytest.mark.parametrize("extract", [boxed, tagged("a"), after("a"), fenced(), last_line, Pattern("a+b")])
@pytest.mark.parametrize("text", ["\\boxed{", "<a>", "```a\n", "a", "{", "\x00", "\n"])
def test_enormous_responses_are_read_in_time(extract, text: str):
    with linear():
        extract(text * 20_000)


def test_a_pattern_that_explodes_is_the_judges_fault():
    judge = Extracted(Pattern("(a+)+b", timeout_s=0.2), exact)
    with pytest.raises(JudgeFault, match=r"'\(a\+\)\+b' took over 0.2 s on a text of 40 characters"):
        judge(answered(SEVEN, "a" * 40))


def test_no_answer_in_the_form_is_told_from_a_wrong_one():
    judge = Extracted(boxed, number)
    assert judge(answered(SEVEN, "7")).components == {"extracted": 0.0}
    assert judge(answered(SEVEN, r"\boxed{8}")).components == {"extracted": 1.0, "correct": 0.0, "answered": 1.0}


@pytest.mark.parametrize(
    ("text", "scalar"), [("Answer: 7", 1.0), (" Answer: 7\n", 1.0), ("So. Answer: 7", 0.0), ("", 0.0)]
)
def test_matches_is_of_the_whole_response(text: str, scalar: float):
    assert matches("Answer: .+")(answered(SEVEN, text)).scalar == scalar


@pytest.mark.parametrize("make", [lambda: Pattern("("), lambda: matches("*"), lambda: tagged("<a>")])
def test_what_can_not_be_read_is_refused_when_it_is_written(make):
    with pytest.raises(UsageError):
        make()
