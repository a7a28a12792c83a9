"""Rewards that read like arithmetic: `0.8 * correct + 0.2 * format_ok`, `gate(format_ok) * correct`, `.clip(0, 1)`.

    correct = component("correct", number)
    format_ok = component("format_ok", matches("Answer: .+"))
    reward = gate(format_ok) * correct

Invariants:
- A component is asked once for a score, however often it stands in the expression, and also behind a closed gate:
  a score keeps every raw value, with its time and explanation.
- What the components are decides what the whole is: reward functions alone make a reward function, a judge among them
  makes a judge, a group judge among them a group judge.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar, overload

from envhub.contracts.ids import PolicyId
from envhub.contracts.judge import GroupJudge, Judge, RewardFunction, is_group_judge, is_judge, policies_of
from envhub.contracts.score import JudgeInput, Score
from envhub.errors import UsageError
from judges.answers import ask
from judges.expression import (
    Clip,
    Constant,
    Gate,
    Linear,
    Named,
    Node,
    Product,
    Stepped,
    is_scheduled,
    minus,
    plus,
)

if TYPE_CHECKING:
    from envhub.contracts.context import Context, GroupContext

Source: TypeAlias = RewardFunction | Judge | GroupJudge
E = TypeVar("E", bound="Expression")

NAME = re.compile(r"[A-Za-z_][\w-]*")


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """An expression over components. `str` gives its formula."""

    node: Node
    sources: Mapping[str, Source]
    scheduled: bool = field(init=False)

    __array_ufunc__: ClassVar[None] = None  # numpy's numbers leave the arithmetic to us

    def __post_init__(self) -> None:
        object.__setattr__(self, "scheduled", is_scheduled(self.node))

    def __add__(self: E, other: "float | Reward | E") -> E:
        return _joined(plus, self, other)

    def __radd__(self: E, other: "float | Reward") -> E:
        return _joined(plus, other, self)

    def __sub__(self: E, other: "float | Reward | E") -> E:
        return _joined(minus, self, other)

    def __rsub__(self: E, other: "float | Reward") -> E:
        return _joined(minus, other, self)

    def __mul__(self: E, other: "float | Reward | E") -> E:
        return _joined(Product, self, other)

    def __rmul__(self: E, other: "float | Reward") -> E:
        return _joined(Product, other, self)

    def clip(self: E, low: float, high: float) -> E:
        """The nearest value between two bounds."""
        return type(self)(Clip(self.node, float(low), float(high)), self.sources)

    @property
    def policies(self) -> frozenset[PolicyId]:
        """Those that its components can't do without."""
        return frozenset[PolicyId]().union(*map(policies_of, self.sources.values()))

    def __str__(self) -> str:
        return str(self.node)


class Reward(Expression):
    """An expression that is a reward function: every component is one."""

    __slots__ = ()
    sources: Mapping[str, RewardFunction]

    def __call__(self, input: JudgeInput) -> Score:
        return ask(self.sources, input).score(self.node, input, scheduled=self.scheduled)


class RewardJudge(Expression):
    """An expression that is a judge: judges are asked side by side, reward functions in a thread."""

    __slots__ = ()
    sources: Mapping[str, Judge | RewardFunction]

    async def score(self, input: JudgeInput, ctx: "Context") -> Score:
        from judges.asking import ask_judges  # what runs on a loop needs anyio; a reward function does not

        answers = await ask_judges(self.sources, input, ctx)
        return answers.score(self.node, input, scheduled=self.scheduled)


class RewardGroupJudge(Expression):
    """An expression that is a group judge. Its reward functions score each member; `own` is the member's own score."""

    __slots__ = ()
    sources: Mapping[str, GroupJudge | RewardFunction]

    async def score_group(self, inputs: Sequence[JudgeInput], ctx: "GroupContext") -> list[Score]:
        from judges.asking import ask_group_judges

        members = await ask_group_judges(self.sources, inputs, ctx)
        return [
            answers.score(self.node, input, scheduled=self.scheduled)
            for answers, input in zip(members, inputs, strict=True)
        ]


@overload
def component(name: str, of: GroupJudge) -> RewardGroupJudge: ...
@overload
def component(name: str, of: Judge) -> RewardJudge: ...
@overload
def component(name: str, of: RewardFunction) -> Reward: ...
def component(name: str, of: Source) -> Expression:
    """A named component, to compute with.

    Raises:
        UsageError: a name that is no word, or "iteration", which a score keeps for schedules.
    """
    if not NAME.fullmatch(name) or name == "iteration":
        raise UsageError(f"component name '{name}' must be a word like format_ok, and not 'iteration'")
    return _kind({name: of})(Named(name), {name: of})


def gate(condition: E, *, at_least: float = 1.0) -> E:
    """1 where the condition reaches `at_least`, else 0: a factor that lets others through."""
    return type(condition)(Gate(condition.node, Constant(at_least).number), condition.sources)


def linear(start: float, end: float, *, over: tuple[int, int]) -> Reward:
    """A weight that goes from `start` to `end` between two iterations (the trainer's announced policy versions), and
    stays at `end` after them."""
    return Reward(Linear(float(start), float(end), *over), {})


def steps(values: Mapping[int, float]) -> Reward:
    """A weight that changes at iterations: `steps({0: 1.0, 200: 0.5})`; the last one stays."""
    return Reward(Stepped(tuple((begin, float(value)) for begin, value in values.items())), {})


def own(input: JudgeInput) -> Score:
    """In a group's reward, what the member's own judge gave.

    Raises:
        UsageError: it is asked of a member alone.
    """
    if input.score is None:
        raise UsageError("'own' stands for the score of a member in its group; a judge of single members has none")
    return input.score


def _joined(operation: Callable[[Node, Node], Node], left: "float | Expression", right: "float | Expression") -> E:  # type: ignore[type-var]
    """The whole is what its most demanding part is."""
    sources = _merged(_sources(left), _sources(right))
    return _kind(sources)(operation(_node(left), _node(right)), sources)  # type: ignore[return-value]


def _kind(sources: Mapping[str, Source]) -> type[Expression]:
    judges = [name for name, source in sources.items() if is_judge(source) and not is_group_judge(source)]  # type: ignore[arg-type]
    groups = [name for name, source in sources.items() if is_group_judge(source)]
    if judges and groups:
        raise UsageError(
            f"'{judges[0]}' judges a member while its sandbox lives, '{groups[0]}' judges the group after that: make "
            f"'{judges[0]}' the environment's judge, and use component('own', own) in the group's reward"
        )
    return RewardGroupJudge if groups else RewardJudge if judges else Reward


def _merged(left: Mapping[str, Source], right: Mapping[str, Source]) -> Mapping[str, Source]:
    for name in left.keys() & right.keys():
        if left[name] is not right[name] and left[name] != right[name]:
            raise UsageError(f"two components are named '{name}'; give each a name of its own")
    return {**left, **right}


def _sources(part: "float | Expression") -> Mapping[str, Source]:
    return part.sources if isinstance(part, Expression) else {}


def _node(part: object) -> Node:
    if isinstance(part, Expression):
        return part.node
    if not isinstance(part, Real):
        raise UsageError(f"a reward can't be computed with {part!r}; use numbers, and component(name, {part!r})")
    return Constant(float(part))
