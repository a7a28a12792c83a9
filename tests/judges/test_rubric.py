"""A model marks answers by a rubric."""

from dataclasses import replace

import pytest

from envhub.contracts.ids import PolicyId, RolloutId
from envhub.contracts.messages import Image, Message, Role, ToolCall
from envhub.contracts.score import JudgeInput
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.errors import JudgeFault, UsageError
from judges.exhibits import View
from judges.rubric import RubricJudge
from judges.rubrics import ANSWER, ARTIFACT, Criterion, Rubric
from judges.verdicts import Bench, Verdict, Verdicts, read_verdict
from tests.judges.court import RUBRIC, TASK, Court, bench, key_in, marks, wrote
from tests.judges.linear import linear

pytestmark = pytest.mark.anyio

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def good(question: str) -> str:
    return marks(question, quality=8, form=4)


async def test_the_score_is_the_weighted_mean_of_fine_marks() -> None:
    court = Court(good)
    score = await RubricJudge(RUBRIC, bench()).score(wrote("rain, rain"), court)
    assert score.scalar == pytest.approx((0.8 + 3 * 0.4) / 4)
    assert score.components == {"quality": 0.8, "form": 0.4, "calls": 1, "tokens": 110}
    assert score.explanation == "As I see it."


async def test_the_judge_is_asked_by_its_policy_with_its_sampling() -> None:
    court, sampling = Court(good), Sampling(temperature=0.5, max_tokens=77)
    await RubricJudge(RUBRIC, bench(policy=PolicyId("grm"), sampling=sampling)).score(wrote("rain"), court)
    ((policy, asked),) = court.asked
    assert (policy, asked.sampling) == ("grm", sampling)
    assert [message.role for message in asked.messages] == [Role.SYSTEM, Role.USER]


async def test_it_sees_the_task_the_last_message_and_the_rubric_after_them() -> None:
    court = Court(good)
    await RubricJudge(RUBRIC, bench()).score(wrote("drip\ndrop"), court)
    question = court.question
    places = [question.index(text) for text in ("| Write a haiku", "| drip\n| drop\n", "- form: 5, 7, 5", '"scores"')]
    assert places == sorted(places)
    assert "Rain on the roof" not in question


async def test_it_sees_the_tasks_answer_where_it_is_to() -> None:
    court, judge = Court(good), RubricJudge(RUBRIC, bench(), View(reference=True))
    await judge.score(wrote("rain"), court)
    assert "| Rain on the roof\n" in court.question
    with pytest.raises(UsageError, match="task 'x' has no answer"):
        await judge.score(replace(wrote("rain"), task=Task.ask("x")), court)


async def test_it_sees_all_that_the_agent_did_where_it_is_to() -> None:
    call = ToolCall("1", "look", {"at": "the sky"})
    said = (*TASK.prompt, Message.assistant("Hm.", (call,)), Message.tool("grey", "1"), Message.assistant("Rain."))
    court = Court(good)
    await RubricJudge(RUBRIC, bench(), View(whole_episode=True)).score(JudgeInput(TASK, said, given=1), court)
    key = key_in(court.question)
    work = court.question.partition(f"[begin of work {key}]\n")[2].partition(f"[end of work {key}]")[0]
    assert work == (
        f"[assistant {key}]\n| Hm.\n[call {key}]\n| look {{'at': 'the sky'}}\n"
        f"[tool {key}]\n| grey\n[assistant {key}]\n| Rain.\n"
    )


async def test_it_sees_pictures_where_they_are() -> None:
    court = Court(good)
    shown = Message(Role.ASSISTANT, "beforeafter", images=(replace(Image.of(PIXEL), at=6),))
    task = replace(TASK, prompt=(Message.user("Draw this.", PIXEL),))
    await RubricJudge(RUBRIC, bench()).score(JudgeInput(task, (*task.prompt, shown), given=1), court)
    asked = court.asked[0][1].messages[-1]
    first, second = (asked.content[: image.at] for image in asked.images)
    assert first.endswith("| Draw this.\n")
    assert second.endswith("| before\n")
    assert asked.content[len(second) :].startswith("| after\n")
    assert all(image.data == PIXEL for image in asked.images)


async def test_other_pictures_are_another_question() -> None:
    court, judge = Court(good), RubricJudge(RUBRIC, bench())
    for data in (PIXEL, PIXEL + b"\0"):
        shown = Message(Role.ASSISTANT, "see", images=(Image.of(data),))
        await judge.score(JudgeInput(TASK, (*TASK.prompt, shown), given=1), court)
    assert len(court.asked) == 2


async def test_of_an_enormous_answer_it_sees_both_ends() -> None:
    court = Court(good)
    await RubricJudge(RUBRIC, bench(), View(most_characters=1000)).score(wrote("a" * 10**6 + "b" * 600), court)
    assert (
        f"| {'a' * 500}\n[999600 characters are left out {key_in(court.question)}]\n| {'b' * 500}\n" in court.question
    )
    assert len(court.question) < 3000


async def test_an_episode_without_an_answer_is_judged_too() -> None:
    court = Court(good)
    await RubricJudge(RUBRIC, bench()).score(JudgeInput(TASK, TASK.prompt, given=1), court)
    key = key_in(court.question)
    assert f"[begin of work {key}]\n[end of work {key}]\n" in court.question


async def test_alternatives_are_chosen_by_the_episode() -> None:
    court = Court(lambda question: marks(question, beauty=10) if "beauty" in question else good(question))
    beauty = Rubric((Criterion("beauty", "is beautiful"),))
    judge = RubricJudge(lambda input: beauty if "sun" in input.response else RUBRIC, bench())
    assert (await judge.score(wrote("sun"), court)).components.keys() >= {"beauty"}
    assert (await judge.score(wrote("rain"), court)).components.keys() >= {"quality", "form"}


async def test_repeats_swap_the_criteria_and_measure_consistency() -> None:
    def by_order(question: str) -> str:
        first = question.index("- quality") < question.index("- form")
        return marks(question, quality=9 if first else 5, form=4)

    court = Court(by_order)
    score = await RubricJudge(RUBRIC, bench(), repeats=2).score(wrote("rain"), court)
    assert score.components["quality"] == pytest.approx(0.7)
    assert score.components["form"] == pytest.approx(0.4)
    assert score.components["consistency"] == pytest.approx(1 - (0.4 + 0.0) / 2)
    assert score.components["calls"] == 2
    assert len({key_in(asked.messages[-1].content) for _, asked in court.asked}) == 2


async def test_a_reply_without_a_verdict_is_asked_for_again_with_what_is_wrong() -> None:
    replies = iter(["It is fine.", "bad", "good"])

    def reply(question: str) -> str:
        chosen = next(replies)
        nonlocal key
        key = key or key_in(question)
        last = {"bad": '{"quality": 11, "form": 1}', "good": '{"quality": 10, "form": 10}'}.get(chosen)
        return chosen if last is None else f'{{"verdict": "{key}", "scores": {last}}}'

    key = ""
    court = Court(reply)
    score = await RubricJudge(RUBRIC, bench()).score(wrote("rain"), court)
    assert (score.scalar, score.components["calls"], score.components["tokens"]) == (1.0, 3, 330)
    complaints = [asked.messages[-1].content for _, asked in court.asked[1:]]
    assert f"no JSON object with the key {key}" in complaints[0]
    assert "the score of quality is 11; it must be a number from 0 to 10" in complaints[1]


@pytest.mark.parametrize(
    "scores",
    [
        "{}",
        '{"quality": 5}',
        '{"quality": 5, "form": 5, "more": 5}',
        '{"quality": "5", "form": 5}',
        '{"quality": true, "form": 5}',
        '{"quality": -1, "form": 5}',
        '{"quality": NaN, "form": 5}',
        '{"quality": Infinity, "form": 5}',
        '{"quality": 1e999, "form": 5}',
        f'{{"quality": {"9" * 5000}, "form": 5}}',
        "[5, 5]",
        "null",
        '{"quality": 5, "form": 5}, "why": "because"',
        '{"quality": NUMBER, "form": NUMBER}',
        "[" * 100_000,
    ],
)
async def test_what_is_no_verdict_is_a_failure_after_the_last_try_and_never_a_score(scores: str) -> None:
    keys = []

    def reply(question: str) -> str:
        keys.extend([] if keys else [key_in(question)])
        return f'{{"verdict": "{keys[0]}", "scores": {scores}}}'

    court = Court(reply)
    with pytest.raises(JudgeFault, match="policy 'judge' gave no verdict in 2 replies") as caught:
        await RubricJudge(RUBRIC, bench(max_tries=2)).score(wrote("rain"), court)
    assert caught.value.retryable
    assert len(court.asked) == 2


async def test_an_answer_that_was_judged_before_is_not_judged_again() -> None:
    court, judge = Court(good), RubricJudge(RUBRIC, bench())
    first = await judge.score(wrote("rain"), court)
    again = await judge.score(wrote("rain"), court)
    assert (first.scalar, len(court.asked)) == (again.scalar, 1)
    assert (again.components["calls"], again.components["tokens"]) == (0, 0)
    await judge.score(wrote("snow"), court)
    await replace(judge, rubric=replace(RUBRIC, guidance="Be kind.")).score(wrote("rain"), court)
    await replace(judge, bench=replace(judge.bench, policy=PolicyId("other"))).score(wrote("rain"), court)
    assert len(court.asked) == 4


async def test_a_judge_that_is_trained_is_asked_again_at_every_iteration() -> None:
    court = Court(good)
    judge = RubricJudge(RUBRIC, bench(policy=court.request.policy_id))
    for iteration in (0, 0, 1):
        await judge.score(wrote("rain", iteration=iteration), court)
    assert len(court.asked) == 2


async def test_another_run_may_have_another_model() -> None:
    court, judge = Court(good), RubricJudge(RUBRIC, bench())
    for rollout in ("one-0-0-0", "one-1-3-0", "two-0-0-0"):
        court.rollout_id = RolloutId(rollout)
        await judge.score(wrote("rain"), court)
    assert len(court.asked) == 2


async def test_a_rollout_that_goes_on_asks_again_what_it_asked_before() -> None:
    judge = RubricJudge(RUBRIC, bench())
    await judge.score(wrote("rain"), Court(good))
    resumed = Court(good, resumed=True)
    await judge.score(wrote("rain"), resumed)
    assert len(resumed.asked) == 1


def test_the_oldest_verdicts_are_forgotten() -> None:
    verdicts = Verdicts(most=2)
    for key in "abacd":
        if verdicts.get(key) is None:
            verdicts.add(key, Verdict(key, "", calls=1))
    assert [verdicts.get(key) is not None for key in "abcd"] == [False, False, True, True]


def test_the_last_verdict_of_a_reply_counts() -> None:
    reply = '{"verdict": "k", "x": 1} No: {"x": {"y": 2}, "verdict": "k"} and {"verdict": "other", "x": 3} {'
    assert read_verdict(reply, "k", dict) == (
        {"x": {"y": 2}},
        '{"verdict": "k", "x": 1} No:',
    )


def test_a_reply_full_of_braces_is_read_in_no_time() -> None:
    with linear(), pytest.raises(ValueError, match="no JSON object"):
        read_verdict('{"a":' * 50_000 + '"k"' + "{" * 50_000 + '"k"' * 100, "k", dict)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Criterion("two words", "x"),
        lambda: Criterion("calls", "x"),
        lambda: Criterion("x", " "),
        lambda: Criterion("x", "x", weight=0),
        lambda: Criterion("x", "x", weight=float("nan")),
        lambda: Rubric(()),
        lambda: Rubric((Criterion("x", "x"), Criterion("x", "y"))),
        lambda: Rubric((Criterion("x", "x"),), best=0),
        lambda: RubricJudge(repeats=0),
        lambda: View(most_characters=0),
        lambda: Bench(max_tries=0),
    ],
)
def test_what_makes_no_sense_is_refused_when_it_is_written(make) -> None:
    with pytest.raises(UsageError):
        make()


def test_the_rubrics_that_come_with_envhub_name_the_reports_criteria() -> None:
    names = {criterion.name for rubric in (ANSWER, ARTIFACT) for criterion in rubric.criteria}
    assert names == {"helpfulness", "readiness", "relevance", "detail", "aesthetics", "instructions"}
