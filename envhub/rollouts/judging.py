"""Judging: one score from whatever judges a rollout, or a Fault("judge"); never a made-up number."""

from functools import partial

import anyio

from envhub.contracts.context import Context
from envhub.contracts.judge import Judge, RewardFunction
from envhub.contracts.score import JudgeInput, Score
from envhub.errors import Boundary, JudgeFault, Truncated, boundary
from envhub.toolsets.threads import Threads

REWARD_THREADS = Threads("reward", 8)  # more would wait for each other: reward functions mostly hold the GIL


async def judged(judge: Judge | RewardFunction | None, input: JudgeInput, ctx: Context, *, deadline_s: float) -> Score:
    """The score of a finished episode. Without a judge it is the sum of the rewards of its steps.

    Raises:
        JudgeFault: no valid score within the deadline.
    """
    if judge is None:
        with boundary(Boundary.JUDGE):
            return Score(input.episode_return, {"return": input.episode_return})
    try:
        with anyio.fail_after(deadline_s), boundary(Boundary.JUDGE):
            return await _score(judge, input, ctx)
    except Truncated as limit:
        raise JudgeFault(f"the judge's own budget is spent ({limit.reason})") from limit
    except TimeoutError:
        raise JudgeFault(f"no score within {deadline_s:g} s") from None


async def _score(judge: Judge | RewardFunction, input: JudgeInput, ctx: Context) -> Score:
    if not callable(judge):
        return await judge.score(input, ctx)
    # A call that runs over the deadline is abandoned: Python can't kill a thread, only not wait for it.
    given = await REWARD_THREADS.run(partial(judge, input))
    return given if isinstance(given, Score) else Score(float(given))
