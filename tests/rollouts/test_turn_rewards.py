"""What single turns earned, by the environment's steps or by a judge, is in the score: wherever the rollout runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envhub.contracts.context import Context, GroupContext
from envhub.contracts.environment import Environment
from envhub.contracts.events import RolloutEnded
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.score import JudgeInput, Score
from envhub.engines.scripted import ScriptInput
from envhub.errors import Boundary, UsageError
from envhub.feed.codec import TrainerMember, decode_group
from envhub.feed.encoding import encode_group
from envhub.monitor.verify import verify
from envhub.registry import environment, group_judges
from envhub.store.sql_store import open_store
from envhub.testing.runs import open_scripted_run, request
from tests.rollouts.worlds import ONE, THREE, Judged, walk_tasks

pytestmark = pytest.mark.anyio


class Marks:
    """Marks each turn by its place, and the whole with 10."""

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        return Score(10.0, turn_rewards={turn: float(place) for place, turn in enumerate(input.turns)})


class Nowhere:
    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        return Score(1.0, turn_rewards={7: 1.0})


class Tenth:
    """Says nothing of turns."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        return [Score(0.1) for _ in inputs]


class Last:
    """Gives all of it to the last turn but one."""

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        return [Score(5.0, turn_rewards={input.turns[-2]: 5.0}) for input in inputs]


def ten(input: JudgeInput) -> float:
    return 10.0


@environment("test/marked-v0", tasks=walk_tasks)
def marked() -> Environment:
    return Judged(Marks())


@environment("test/marked-nowhere-v0", tasks=walk_tasks)
def marked_nowhere() -> Environment:
    return Judged(Nowhere())


@environment("test/ten-v0", tasks=walk_tasks)
def worth_ten() -> Environment:
    return Judged(ten)


group_judges.register("test/tenth", Tenth())
group_judges.register("test/last", Last())


def says(asked: ScriptInput) -> str:
    return f"step {asked.seed % 10}"


def earned(outcome: Outcome) -> dict[int, float]:
    assert outcome.score is not None
    return dict(outcome.score.turn_rewards)


@pytest.mark.parametrize(
    ("world", "reward", "turns"),
    [
        ("test/walk-v0", 3.0, {0: 1.0, 1: 1.0, 2: 1.0}),
        ("test/ten-v0", 10.0, {0: 1.0, 1: 1.0, 2: 1.0}),
        ("test/marked-v0", 10.0, {0: 0.0, 1: 1.0, 2: 2.0}),
    ],
    ids=["of steps, without a judge", "of steps, beside a judge", "of a judge"],
)
async def test_the_score_says_what_each_turn_earned(world: str, reward: float, turns: dict[int, float]) -> None:
    async with open_scripted_run(says) as run:
        (outcome,) = await run.play(request(world, task=THREE))
        (ended,) = [event for event in await run.events() if isinstance(event, RolloutEnded)]
        report = await verify(run.store)
    assert (outcome.reward, earned(outcome)) == (reward, turns)
    assert ended.score == outcome.score
    assert report.ok


async def test_what_the_last_turn_alone_earned_needs_no_saying() -> None:
    async with open_scripted_run(says) as run:
        (outcome,) = await run.play(request("test/walk-v0", task=ONE))
    assert outcome.score == Score(1.0, {"return": 1.0})


async def test_a_reward_for_no_turn_of_the_rollout_is_the_judges_fault() -> None:
    async with open_scripted_run(says) as run:
        (outcome,) = await run.play(request("test/marked-nowhere-v0", task=THREE))
    assert (outcome.status, outcome.score) == (Status.FAILED, None)
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.JUDGE
    assert "gave a reward to turn 7, and the rollout has no such turn: they are 0, 1, 2" in outcome.failure.message


@pytest.mark.parametrize(
    ("judge", "reward", "turns"),
    [("test/tenth", 0.1, {0: 1.0, 1: 1.0, 2: 1.0}), ("test/last", 5.0, {1: 5.0})],
    ids=["leaves the members' own", "gives others"],
)
async def test_the_judge_of_a_group(judge: str, reward: float, turns: dict[int, float]) -> None:
    async with open_scripted_run(says) as run:
        outcomes = await run.play(replace(request("test/walk-v0", task=THREE, k=2), group_judge=judge))
    assert [(outcome.reward, earned(outcome)) for outcome in outcomes] == [(reward, turns)] * 2


async def delivered(database: Path, *, resume: bool) -> TrainerMember:
    """The one member of the one group, as a trainer gets it."""
    store = await open_store(str(database))
    async with open_scripted_run(says, store=store, lease_s=60.0, resume=resume) as run:
        if not resume:
            await run.manager.start(request("test/walk-v0", task=THREE))
        delivery = await run.feed.lease("trainer")
        assert delivery is not None
        if resume:
            await run.feed.ack(delivery.lease_id)
        else:
            await run.feed.give_back(delivery.lease_id)
    await store.close()
    (member,) = decode_group(encode_group(delivery.group)).members
    return member


async def test_a_trainer_gets_them_with_the_row_also_from_the_records_of_a_run_that_is_gone(tmp_path: Path) -> None:
    members = [await delivered(tmp_path / "runs.db", resume=resume) for resume in (False, True)]
    for member in members:
        (row,) = member.rows
        ends = [span.end for span in row.row.spans if span.sampled]
        assert [(reward.turn, reward.end, reward.reward) for reward in row.rewards] == [
            (turn, end, 1.0) for turn, end in enumerate(ends)
        ]


def test_a_reward_that_is_no_finite_number_is_refused() -> None:
    with pytest.raises(UsageError, match="'turn 3' is nan"):
        Score(1.0, turn_rewards={3: float("nan")})
