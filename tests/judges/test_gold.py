"""What holds for every judge that compares: its gold answer gets full marks, no response takes long or raises."""

import pickle

import pytest

from envhub.contracts.ids import TaskId
from envhub.contracts.judge import RewardFunction
from envhub.contracts.messages import Message
from envhub.contracts.task import Task
from envhub.prompts import gold_text
from envhub.testing.judge_suite import answered
from judges import (
    Citations,
    Count,
    Extracted,
    GroundingF1,
    JsonSchema,
    Maths,
    MultipleChoice,
    PointsF1,
    PolygonIoU,
    SqlResult,
    TableF1,
    TextSimilarity,
    boxed,
    component,
    exact,
    normalised,
    number,
)
from tests.judges.linear import linear

SHAPE = [[10, 10], [30, 10], [20, 30]]
JUDGES: dict[str, tuple[RewardFunction, list[object], dict[str, object]]] = {
    "exact": (exact, ["Paris", 7, -1.5], {}),
    "number": (number, [7, -1.5, 1e-7, 10**30, "1,000"], {}),
    "normalised": (normalised, ["The Hague", "U.S.A.", 7, -0.5, "C++"], {}),
    "choice": (MultipleChoice(), ["A", "d"], {}),
    "maths": (Maths(), [r"\frac{1}{2}", "x^2 + 1", 7, r"\{1, 2\}", "(1, 2]", r"\sqrt{2}", "1/3", "2\\pi", "x = 3"], {}),
    "schema": (JsonSchema({}, compare=True), [{"a": [1, None]}, [], 7, True, {"b": "x"}], {}),
    "sql": (SqlResult(), ["select a from t order by a", "select count(*), 0.1 from t"], {"setup": "create table t(a)"}),
    "table": (TableF1(("k",)), [[{"k": "a", "v": 1.5}, {"k": "b", "v": None}], [{"k": "1,5"}]], {}),
    "boxes": (GroundingF1(), [[], [[0, 0, 1, 1]], [{"bbox": [0, 0, 9, 9], "label": "a cat"}, [1, 1, 2, 2]]], {}),
    "points": (PointsF1(3), [[], [[0, 0]], [{"point": [1, 2], "label": "eye"}, [3.5, -4]]], {}),
    "polygon": (PolygonIoU(), [SHAPE, [SHAPE, [[40, 40], [50, 40], [50, 50]]]], {"size": [64, 64]}),
    "ocr": (TextSimilarity(), ["Café\nau lait", "", " a"], {}),
    "count": (Count(), [0, 7, 10**9], {}),
    "composed": (
        0.7 * component("a", exact) + 0.2 * component("b", number) + 0.1 * component("c", normalised),
        [7],
        {},
    ),
}
GOLD = [(name, answer) for name, (_, answers, _) in JUDGES.items() for answer in answers]


def ask(name: str, answer: object) -> Task:
    return Task(TaskId("t"), (Message.user("?"),), answer, JUDGES[name][2])


@pytest.mark.parametrize(("name", "answer"), GOLD, ids=lambda value: str(value)[:40])
def test_the_gold_answer_scores_full_marks(name: str, answer: object):
    judge = JUDGES[name][0]
    assert judge(answered(ask(name, answer), gold_text(answer))).scalar == 1.0
    assert pickle.loads(pickle.dumps(judge))(answered(ask(name, answer), gold_text(answer))).scalar == 1.0


ENORMOUS = {
    "digits": "9" * 5_000_000,
    "numbers": "[1, 2, 3, 4], " * 300_000,
    "brackets": "[" * 3_000_000,
    "braces": '{"a":' * 600_000,
    "boxes": "\\boxed{" * 500_000,
    "cells": "| a | b |\n|---|---|\n" * 150_000,
    "fences": "```a\n" * 600_000,
    "answers": "The answer is (A). " * 200_000,
    "marks": "\u0301" * 2_000_000,
    "boxes in a list": "[" + ", ".join(["[0, 0, 1, 1]"] * 50_000) + "]",
    "points in a list": "[" + ", ".join(["[0, 1]"] * 50_000) + "]",
    "rows": "[" + ", ".join(['{"k": 1}'] * 50_000) + "]",
}


@pytest.mark.parametrize("response", ENORMOUS.values(), ids=ENORMOUS.keys())
@pytest.mark.parametrize("name", JUDGES)
def test_an_enormous_response_is_scored_in_time(name: str, response: str):
    judge, answers, _ = JUDGES[name]
    with linear():
        assert 0 <= judge(answered(ask(name, answers[-1]), response)).scalar <= 1


@pytest.mark.parametrize("response", ENORMOUS.values(), ids=ENORMOUS.keys())
@pytest.mark.parametrize("judge", [Citations(), Extracted(boxed, exact)], ids=["citations", "boxed"])
def test_an_enormous_response_is_read_in_time(judge: RewardFunction, response: str):
    with linear():
        judge(answered(Task.ask("?", 7), response))
