"""Pairwise: a group judge. A model compares answers two by two, and each gets its win rate.

The report names the mode and no scalar (arXiv:2602.02276 §4.4.2); the win rate is ours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from statistics import fmean
from typing import TypeAlias

from envhub.contracts.context import Budget, GroupContext
from envhub.contracts.ids import PolicyId
from envhub.contracts.messages import JsonObject, Message
from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError
from judges.exhibits import JUDGE, View
from judges.quoting import HOLE, Page
from judges.rubric import RubricChoice
from judges.rubrics import ANSWER, Rubric
from judges.side_by_side import side_by_side
from judges.verdicts import Bench, Verdict

Pair: TypeAlias = tuple[int, int]
Better: TypeAlias = float  # 1: the work that is shown first, 0: the second, 0.5: neither

BETTER = {"first": 1.0, "second": 0.0, "tie": 0.5}
REPLY = (
    "Give your reasons first, in a few sentences of your own. Which is shown first means nothing. Then, as the last "
    'line, this JSON object and nothing after it, CHOICE being "first", "second" or "tie":\n'
    '{{"verdict": "{key}", "better": CHOICE}}\n'
)


@dataclass(frozen=True, slots=True)
class Pairwise:
    """The share of its comparisons that a member wins, a tie being half a win; 0.5 where it is alone.

    Each pair is compared twice, either member first. Where the two verdicts differ neither wins; `consistency` is the
    share of a member's pairs in which they agree. Members that say the same are a tie, unasked. With `opponents` each
    member meets at least so many others, and all have met as many; else everybody meets everybody. That is two calls a
    pair, and may be more than the `Limits` of a rollout allow its judge.

    The rest is as in RubricJudge; marks are not given.

    Raises:
        UsageError: a number out of its range; (of a call) a budget without enough turns.
        Fault: (of a call) no reply held a verdict, or the policy failed.
    """

    rubric: RubricChoice = ANSWER
    bench: Bench = Bench()
    view: View = View()
    opponents: int | None = None

    def __post_init__(self) -> None:
        if self.opponents is not None and self.opponents < 1:
            raise UsageError(f"opponents of Pairwise is {self.opponents}; it must be at least 1, or None for all")

    @property
    def policies(self) -> frozenset[PolicyId]:
        return frozenset({self.bench.policy})

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: GroupContext) -> list[Score]:
        pairs = list(pairs_of(len(inputs), self.opponents))
        _check_budget(len(pairs), len(inputs), ctx.budget)
        both = [*pairs, *((other, one) for one, other in pairs)]
        calls = [partial(self._verdict, inputs[first], inputs[second], ctx) for first, second in both]
        given = await side_by_side(calls, at_once=self.bench.at_once(ctx.budget))
        verdicts = dict(zip(both, given, strict=True))
        return [_score(member, verdicts) for member in range(len(inputs))]

    async def _verdict(self, first: JudgeInput, second: JudgeInput, ctx: GroupContext) -> Verdict[Better]:
        if self.view.work(first) == self.view.work(second):
            return Verdict(BETTER["tie"], "")
        return await self.bench.verdict(self._question(first, second), read_better, first, ctx)

    def _question(self, first: JudgeInput, second: JudgeInput) -> Sequence[Message]:
        page = Page()
        self.view.show_task(page, first.task)
        self.view.show_work(page, "first work", first)
        self.view.show_work(page, "second work", second)
        rubric = self.rubric if isinstance(self.rubric, Rubric) else self.rubric(first)
        page.write(f"\nWhich work is better, all in all, by this rubric?\n{rubric.text()}\n\n{REPLY.format(key=HOLE)}")
        return JUDGE, page.message()


def pairs_of(members: int, opponents: int | None) -> Iterator[Pair]:
    """Who is compared: all, or neighbours in a circle, further ones as more opponents are asked for."""
    if opponents is None or opponents >= members - 1:
        yield from combinations(range(members), 2)
        return
    for distance in range(1, math.ceil(opponents / 2) + 1):
        yield from ((member, (member + distance) % members) for member in range(members))


def read_better(verdict: JsonObject) -> Better:
    """
    Raises:
        ValueError: it does not say which is better, or says more.
    """
    better = verdict.get("better")
    if len(verdict) > 1 or not isinstance(better, str) or better not in BETTER:
        raise ValueError(f"beside its key it must have 'better' alone, one of {', '.join(BETTER)}")
    return BETTER[better]


def _check_budget(pairs: int, members: int, budget: Budget) -> None:
    if 2 * pairs > budget.turns:
        raise UsageError(
            f"Pairwise has {pairs} pairs of {members} members to compare, two calls each, and the judge's budget has "
            f"{budget.turns} turns: raise Limits.max_turns, or lower `opponents`"
        )


def _score(member: int, verdicts: Mapping[Pair, Verdict[Better]]) -> Score:
    """`calls` and `tokens` are a member's share: half of what each of its comparisons took."""
    mine = {other: verdict for (one, other), verdict in verdicts.items() if one == member}
    theirs = {one: verdict for (one, other), verdict in verdicts.items() if other == member}
    wins, agree = [], []
    for other, verdict in mine.items():
        same = verdict.value == 1.0 - theirs[other].value
        wins.append(verdict.value if same else BETTER["tie"])
        agree.append(float(same))
    asked = [*mine.values(), *theirs.values()]
    components = {
        "win_rate": fmean(wins) if wins else BETTER["tie"],
        "consistency": fmean(agree) if agree else 1.0,
        "calls": sum(verdict.calls for verdict in asked) / 2,
        "tokens": sum(verdict.tokens for verdict in asked) / 2,
    }
    return Score(components["win_rate"], components, f"{wins.count(1.0)} won, {wins.count(0.5)} tied of {len(wins)}")


pairwise = Pairwise()
