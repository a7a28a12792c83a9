"""RubricJudge: a generative reward model. A model marks an answer by a rubric (arXiv:2602.02276 §4.4.2).

RubricJudge()                                               # policy "judge", the rubric of an answer
RubricJudge(lambda input: CODE if "code" in input.task.metadata else ANSWER)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TypeAlias

from envhub.contracts.context import Context
from envhub.contracts.ids import PolicyId
from envhub.contracts.messages import Message
from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError
from judges.exhibits import JUDGE, View
from judges.quoting import HOLE, Page
from judges.rubrics import ANSWER, Rubric
from judges.side_by_side import side_by_side
from judges.verdicts import Bench, Verdict

RubricChoice: TypeAlias = Rubric | Callable[[JudgeInput], Rubric]
Marks: TypeAlias = dict[str, float]  # by criterion, between 0 and 1

REPLY = (
    "Give your reasons first, in a few sentences of your own. Then, as the last line, this JSON object and nothing "
    "after it, each NUMBER a mark from 0 to {best}, halves allowed:\n{form}\n"
)


@dataclass(frozen=True, slots=True)
class RubricJudge:
    """The weighted mean of the marks that a model gives an answer, each between 0 and 1; each mark is a component.

    `rubric` may be chosen by the episode: alternatives make a rubric harder to game; members of one group should get
    the same. `bench` says which policy is asked, `view` what it is shown. With `repeats` it is asked so often, every
    other time with the criteria in reverse order; marks are means then, and `consistency` is 1 less the mean width of
    their ranges.

    `calls` and `tokens` say what the judging took, on the judge's own budget; an answer that was judged before is not
    judged again.

    Raises:
        UsageError: a number out of its range.
        Fault: (of a call) no reply held a verdict, or the policy failed.
    """

    rubric: RubricChoice = ANSWER
    bench: Bench = Bench()
    view: View = View()
    repeats: int = 1

    def __post_init__(self) -> None:
        if self.repeats < 1:
            raise UsageError(f"repeats of RubricJudge is {self.repeats}; it must be at least 1")

    @property
    def policies(self) -> frozenset[PolicyId]:
        return frozenset({self.bench.policy})

    async def score(self, input: JudgeInput, ctx: Context) -> Score:
        rubric = self.rubric if isinstance(self.rubric, Rubric) else self.rubric(input)
        questions = [self._question(input, rubric, repeat) for repeat in range(self.repeats)]
        calls = [partial(self.bench.verdict, question, rubric.read, input, ctx) for question in questions]
        return _score(rubric, await side_by_side(calls, at_once=self.bench.at_once(ctx.budget)))

    def _question(self, input: JudgeInput, rubric: Rubric, repeat: int) -> Sequence[Message]:
        page = Page()
        self.view.show_task(page, input.task)
        self.view.show_work(page, "work", input)
        page.write(f"\nJudge the work by this rubric{f' (judging {repeat + 1})' if repeat else ''}:\n")
        page.write(f"{rubric.text(backwards=repeat % 2 == 1)}\n\n{reply(rubric)}")
        return JUDGE, page.message()


def reply(rubric: Rubric) -> str:
    """How the judge is to reply."""
    marks = ", ".join(f'"{criterion.name}": NUMBER' for criterion in rubric.criteria)
    return REPLY.format(best=rubric.best, form=f'{{"verdict": "{HOLE}", "scores": {{{marks}}}}}')


def _score(rubric: Rubric, verdicts: Sequence[Verdict[Marks]]) -> Score:
    given = {each.name: [verdict.value[each.name] for verdict in verdicts] for each in rubric.criteria}
    marks = {name: fmean(values) for name, values in given.items()}
    components = dict(marks)
    if len(verdicts) > 1:
        components["consistency"] = 1.0 - fmean(max(values) - min(values) for values in given.values())
    components["calls"] = float(sum(verdict.calls for verdict in verdicts))
    components["tokens"] = float(sum(verdict.tokens for verdict in verdicts))
    return Score(rubric.scalar(marks), components, "\n".join(verdict.reasons for verdict in verdicts))


rubric = RubricJudge()
