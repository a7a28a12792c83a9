"""Composition: rewards that read like arithmetic."""

import math
import pickle
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envhub.contracts.ids import PolicyId
from envhub.contracts.judge import is_group_judge, is_judge, policies_of
from envhub.contracts.messages import Message
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered, scored
from judges import (
    AgentJudge,
    Bench,
    Pairwise,
    PerTurn,
    RubricJudge,
    component,
    exact,
    gate,
    linear,
    number,
    own,
    returned,
    steps,
)
from judges.reward import Reward, RewardGroupJudge, RewardJudge

SEVEN = Task.ask("What is 3 + 4?", 7)
GOLD = answered(SEVEN, "7")


def one(input: JudgeInput) -> float:
    return 1.0


def of(value: float) -> Reward:
    """A component that always gives that."""
    return component(f"c{str(value).replace('.', '_').replace('-', 'm')}", Always(value))


@dataclass(frozen=True)
class Always:
    value: float

    def __call__(self, input: JudgeInput) -> float:
        return self.value


@dataclass(frozen=True)
class Slow:
    """A judge that gives a fixed score."""

    value: float

    async def score(self, input, ctx):
        return Score(self.value, {"raw": self.value, "other": 2.0}, "because")


@dataclass(frozen=True)
class Ranks:
    """A group judge: the share of the others that wrote less."""

    missing: int = 0

    async def score_group(self, inputs, ctx):
        sizes = [len(input.response) for input in inputs]
        scores = [Score(sum(size > other for other in sizes) / (len(sizes) - 1)) for size in sizes]
        return scores[: len(scores) - self.missing]


correct = component("correct", number)
format_ok = component("format_ok", exact)


class TestWeighted(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return 0.8 * correct + 0.2 * format_ok

    @pytest.fixture
    def gold(self):
        return GOLD

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "it is 7")


class TestMixed(JudgeSuite):
    """A judge among the components."""

    @pytest.fixture
    def judge(self):
        return 0.5 * correct + 0.5 * component("slow", Slow(1.0))

    @pytest.fixture
    def gold(self):
        return GOLD

    @pytest.fixture
    def wrong(self):
        return answered(SEVEN, "8")


@pytest.mark.parametrize(
    ("reward", "scalar"),
    [
        (0.8 * correct + 0.2 * format_ok, 0.8),
        (gate(format_ok) * correct, 0.0),
        (correct - 0.25, 0.75),
        (2 - correct, 1.0),
        ((3 * correct).clip(0, 1), 1.0),
        ((correct - 3).clip(-1, 1), -1.0),
        (gate(0.5 * correct, at_least=0.5) * correct, 1.0),
        (correct * correct + correct, 2.0),
        (correct - (correct - format_ok), 0.0),
        (sum([correct, correct, format_ok]), 2.0),
        (0.7 * correct + 0.2 * correct + 0.1 * correct, 1.0),
    ],
    ids=str,
)
def test_a_reward_is_what_it_reads(reward: Reward, scalar: float):
    assert reward(answered(SEVEN, "it is 7")).scalar == scalar


def test_its_text_is_its_formula():
    assert str(gate(format_ok) * (correct - 0.5)) == "gate(format_ok) * (correct - 0.5)"
    assert str((0.8 * correct + 0.2).clip(0, 1)) == "(0.8 * correct + 0.2).clip(0, 1)"
    assert str(linear(0.5, 0, over=(0, 10)) * correct) == "linear(0.5, 0, over=(0, 10)) * correct"


VALUES = [-1.5, 0.0, 0.25, 1.0, 3.0]
LEAVES = st.sampled_from([of(value) for value in VALUES]) | st.sampled_from([0.0, 0.5, -2.0, 3.0])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-*"), inner, inner).map(
            lambda tree: {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}[tree[0]](*tree[1:])
        ),
        inner.map(lambda node: node if isinstance(node, float) else gate(node, at_least=0.5)),
        inner.map(lambda node: node if isinstance(node, float) else node.clip(-1, 2)),
    ),
    max_leaves=12,
)


class Number(float):
    """Plain arithmetic, for comparison."""

    def clip(self, low, high):
        return Number(min(max(self, low), high))

    def __add__(self, other):
        return Number(float(self) + other)

    __radd__ = __add__

    def __sub__(self, other):
        return Number(float(self) - other)

    def __rsub__(self, other):
        return Number(other - float(self))

    def __mul__(self, other):
        return Number(float(self) * other)

    __rmul__ = __mul__

    def __neg__(self):
        return Number(-float(self))


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_the_formula_computed_by_python_is_the_score(tree):
    if not isinstance(tree, Reward):
        return
    names = {str(of(value)): Number(value) for value in VALUES}
    names["gate"] = lambda value, at_least=1.0: Number(value >= at_least)
    assert math.isclose(tree(GOLD).scalar, eval(str(tree), names), rel_tol=1e-4, abs_tol=1e-9)


def test_every_raw_component_is_kept_with_its_time_and_explanation():
    score = (gate(format_ok) * correct)(answered(SEVEN, "it is 7"))
    assert score.scalar == 0.0
    assert score.components == {
        "format_ok": 0.0,
        "correct": 1.0,
        "correct.correct": 1.0,
        "correct.answered": 1.0,
    }
    assert score.durations.keys() == {"format_ok", "correct"}
    assert all(0 < seconds < 1 for seconds in score.durations.values())
    assert score.explanation == "correct: 7 where 7 is right"


def test_a_component_is_asked_once():
    asked = []

    def count(input):
        asked.append(input)
        return 1.0

    counted = component("counted", count)
    assert (gate(counted) * counted + 0.5 * counted)(GOLD).scalar == 1.5
    assert len(asked) == 1


def test_two_components_of_one_name_are_refused():
    with pytest.raises(UsageError, match="two components are named 'correct'"):
        _ = correct + component("correct", exact)


@pytest.mark.parametrize("name", ["", "a b", "a.b", "1st", "iteration"])
def test_a_name_is_a_word(name: str):
    with pytest.raises(UsageError, match="must be a word"):
        component(name, exact)


@pytest.mark.parametrize("given", [math.nan, math.inf, None, "much", object()])
def test_a_component_that_gives_no_number_is_named(given: object):
    with pytest.raises(UsageError, match=r"component 'bad' gave .*; it must give a finite number"):
        (0.0 * component("bad", Always(given)))(GOLD)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "make",
    [
        lambda: math.nan * correct,
        lambda: correct + math.inf,
        lambda: correct + "1",
        lambda: correct.clip(1, 0),
        lambda: correct.clip(math.nan, 1),
        lambda: gate(correct, at_least=math.nan),
        lambda: linear(math.nan, 0, over=(0, 10)),
        lambda: linear(1, 0, over=(10, 10)),
        lambda: linear(1, 0, over=(-1, 10)),
        lambda: steps({}),
        lambda: steps({1: 0.5}),
        lambda: steps({0: 1, 20: 0.5, 10: 0.1}),
        lambda: steps({0: math.inf}),
    ],
)
def test_numbers_that_make_no_sense_are_refused_when_it_is_written(make):
    with pytest.raises(UsageError):
        make()


def test_numpys_numbers_are_numbers():
    weighted = np.float64(0.5) * correct + correct * np.float32(0.5)
    assert isinstance(weighted, Reward)
    assert weighted(GOLD).scalar == 1.0


def test_a_reward_is_picklable_and_a_component_of_another():
    inner = 0.5 * correct + 0.5 * format_ok
    outer = pickle.loads(pickle.dumps((component("inner", inner) * linear(1, 0, over=(0, 4))).clip(0, 1)))
    score = outer(replace(GOLD, iteration=1))
    assert score.scalar == 0.75
    assert score.components["inner.correct.answered"] == 1.0


@pytest.mark.parametrize(
    ("iteration", "weight"), [(0, 1.0), (10, 1.0), (15, 0.75), (20, 0.5), (21, 0.5), (10**9, 0.5), (-1, 1.0)]
)
def test_a_linear_schedule_stays_at_its_ends(iteration: int, weight: float):
    score = (linear(1.0, 0.5, over=(10, 20)) * correct)(replace(GOLD, iteration=iteration))
    assert score.scalar == weight
    assert score.components["iteration"] == iteration


@pytest.mark.parametrize(("iteration", "weight"), [(0, 1.0), (9, 1.0), (10, 0.5), (29, 0.5), (30, 0.0), (10**9, 0.0)])
def test_the_last_step_of_a_schedule_stays(iteration: int, weight: float):
    assert (steps({0: 1, 10: 0.5, 30: 0}) * correct)(replace(GOLD, iteration=iteration)).scalar == weight


def test_only_a_schedule_puts_the_iteration_into_the_score():
    assert "iteration" not in correct(GOLD).components
    assert "iteration" in (0.5 * (1 - linear(0, 1, over=(0, 5)) * correct).clip(0, 1))(GOLD).components


def test_what_the_components_are_decides_what_the_whole_is():
    judge, group = component("slow", Slow(1.0)), component("ranks", Ranks())
    assert type(correct + format_ok) is Reward
    assert type(correct + judge) is type(judge + correct) is RewardJudge
    assert type(0.5 * correct + 0.5 * group) is type(gate(group) * correct) is RewardGroupJudge
    assert is_judge(correct * judge) and not is_judge(correct)
    assert is_group_judge(group) and not is_judge(group) and not is_group_judge(judge)
    with pytest.raises(UsageError, match="make 'slow' the environment's judge"):
        _ = judge + group


def test_the_whole_asks_the_policies_that_its_parts_ask():
    strict = RubricJudge(bench=Bench(PolicyId("strict")))
    assert policies_of(correct) == frozenset()
    assert policies_of(gate(correct) * component("rubric", RubricJudge()) + component("strict", strict)) == {
        "judge",
        "strict",
    }
    assert policies_of(component("own", own) + component("pairs", Pairwise())) == {"judge"}
    assert policies_of(AgentJudge("envhub/arithmetic-v0")) == {"judge"}


@pytest.mark.anyio
async def test_judges_and_functions_are_kept_in_the_order_of_the_formula():
    score = await scored(0.5 * component("slow", Slow(0.5)) + correct, GOLD)
    assert score.scalar == 1.25
    assert list(score.components) == [
        "slow",
        "slow.raw",
        "slow.other",
        "correct",
        "correct.correct",
        "correct.answered",
    ]
    assert list(score.durations) == ["slow", "correct"]
    assert "slow: because" in score.explanation


@pytest.mark.anyio
async def test_a_group_is_judged_together():
    group = [
        replace(answered(SEVEN, text), score=Score(float(mark))) for text, mark in (("7", 1), ("77", 0), ("777", 1))
    ]
    scores = await (0.5 * component("own", own) + 0.5 * component("ranks", Ranks())).score_group(group, None)
    assert [score.scalar for score in scores] == [0.5, 0.25, 1.0]
    assert [score.components for score in scores][1] == {"own": 0.0, "ranks": 0.5}


@pytest.mark.anyio
async def test_a_group_judge_that_forgets_a_member_is_a_fault():
    with pytest.raises(JudgeFault, match="'ranks' gave 2 scores for 3 members"):
        await component("ranks", Ranks(missing=1)).score_group([GOLD] * 3, None)


def test_own_is_refused_to_a_single_member():
    with pytest.raises(UsageError, match="'own' stands for the score of a member in its group"):
        component("own", own)(GOLD)


def test_a_reward_per_turn_sees_each_message_of_the_agent():
    example = (Message.user("2 + 2?"), Message.assistant("4"))
    said = (Message.assistant("7"), Message.user("sure?"), Message.assistant("8"), Message.assistant("it is 7"))
    episode = JudgeInput(SEVEN, (*example, *SEVEN.prompt, *said), given=3)
    score = component("turns", PerTurn(number))(episode)
    assert score.components == {"turns": 2 / 3, "turns.turn_1": 1.0, "turns.turn_2": 0.0, "turns.turn_3": 1.0}
    assert "turn 2: 8 where 7 is right" in score.explanation
    assert PerTurn(number, min)(episode).scalar == 0.0
    assert PerTurn(number)(replace(episode, messages=SEVEN.prompt, given=1)).scalar == 0.0
    assert pickle.loads(pickle.dumps(PerTurn(number, sum)))(episode).scalar == 2.0


def test_the_return_of_the_environment_is_a_component():
    assert component("return", returned)(replace(GOLD, episode_return=2.5)).scalar == 2.5


def test_composing_loads_nothing_heavy():
    code = "import sys; from judges import component, gate, number; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not any(f"'{name}'" in loaded for name in ("numpy", "scipy", "sympy", "anyio", "asyncio", "sqlite3"))


def test_partials_are_components():
    assert component("close", partial(number, tolerance=0.5))(answered(SEVEN, "7.4")).scalar == 1.0
