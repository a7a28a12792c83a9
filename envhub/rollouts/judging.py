"""Judging: scores from whatever judges a rollout or a group, or a Fault("judge"); never a made-up number."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from envhub.contracts.context import Context, GroupContext
from envhub.contracts.judge import GroupJudge, Judge, RewardFunction, is_judge
from envhub.contracts.score import JudgeInput, Score
from envhub.environments.grace import GivenUp, Grace
from envhub.errors import Boundary, JudgeFault, Truncated, boundary
from envhub.rollouts.clock import EpisodeClock
from envhub.toolsets.threads import Threads

T = TypeVar("T")

REWARD_THREADS = Threads("reward", 8)  # more would wait for each other: reward functions mostly hold the GIL


async def judged(
    judge: Judge | RewardFunction | None, input: JudgeInput, ctx: Context, clock: EpisodeClock, grace: Grace
) -> Score:
    """The score of a finished episode. Without a judge it is the sum of the rewards of its steps.

    Raises:
        JudgeFault: no valid score within the deadline.
    """
    if judge is None:
        with boundary(Boundary.JUDGE):
            return Score(input.episode_return, {"return": input.episode_return})
    return await _within(clock, partial(_score, judge, input, ctx, grace))


async def judged_group(
    judge: GroupJudge, inputs: Sequence[JudgeInput], ctx: GroupContext, clock: EpisodeClock, grace: Grace
) -> tuple[Score, ...]:
    """The scores of a group's members, in order.

    Raises:
        JudgeFault: no valid scores within the deadline.
    """
    return await _within(clock, partial(grace.run, partial(_ask_for_group, judge, inputs, ctx)))


def with_turn_rewards(score: Score, by_steps: Mapping[int, float], turns: Collection[int]) -> Score:
    """The score with what single turns earned: by its judge or, where that says nothing of them, by the steps. What
    the last turn alone earned needs no saying: it is what is earned at the end.

    Raises:
        JudgeFault: the judge says it of something that is no turn of the rollout.
    """
    unknown = sorted(score.turn_rewards.keys() - turns)
    if unknown:
        rule = f"they are {_some(sorted(turns))}; JudgeInput.turns has that of each step"
        raise JudgeFault(f"the judge gave a reward to turn {unknown[0]}, and the rollout has no such turn: {rule}")
    earned = {turn: reward for turn, reward in by_steps.items() if turn in turns}
    if score.turn_rewards or not earned or earned.keys() == {max(turns)}:
        return score
    return replace(score, turn_rewards=earned)


def _some(turns: Sequence[int]) -> str:
    return ", ".join(map(str, turns[:8])) + (", ..." if len(turns) > 8 else "") if turns else "none"


async def _within(clock: EpisodeClock, ask: Callable[[], Awaitable[T]]) -> T:
    try:
        with clock.running():
            return await ask()
    except GivenUp as error:
        raise JudgeFault(f"the judge's code swallows cancellation: {error}") from error
    except Truncated as limit:
        raise JudgeFault(f"the judge's own budget is spent ({limit.reason})") from limit
    raise JudgeFault("no score within the judge's deadline")


async def _score(judge: Judge | RewardFunction, input: JudgeInput, ctx: Context, grace: Grace) -> Score:
    if is_judge(judge):
        return await grace.run(partial(_ask, judge, input, ctx))
    with boundary(Boundary.JUDGE):
        # A call that runs over the deadline is abandoned: Python can't kill a thread, only not wait for it.
        given = await REWARD_THREADS.run(partial(judge, input))
        return given if isinstance(given, Score) else Score(float(given))


async def _ask(judge: Judge, input: JudgeInput, ctx: Context) -> Score:
    with boundary(Boundary.JUDGE):
        return await judge.score(input, ctx)


async def _ask_for_group(judge: GroupJudge, inputs: Sequence[JudgeInput], ctx: GroupContext) -> tuple[Score, ...]:
    with boundary(Boundary.JUDGE):
        scores = tuple(await judge.score_group(inputs, ctx))
        if len(scores) != len(inputs) or not all(isinstance(score, Score) for score in scores):
            raise JudgeFault(f"the group's judge gave {scores!r} for {len(inputs)} members; it must give a Score each")
        return tuple(map(_with_own_turn_rewards, scores, inputs))


def _with_own_turn_rewards(score: Score, input: JudgeInput) -> Score:
    """A group's judge that says nothing of turns leaves the members' own rewards."""
    own = {} if input.score is None else input.score.turn_rewards
    return with_turn_rewards(score, own, {*input.turns, *own})
