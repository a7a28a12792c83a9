"""Budgets: a tree never spends more than any rollout above may, and critical steps are the longest chain's."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.rollout import Limits
from envhub.errors import Truncated
from envhub.rollouts.purse import Purse


@dataclass
class Node:
    """A rollout as the formula sees it: its stages, each with the children that it started."""

    purse: Purse
    limits: Limits
    parent: "Node | None" = None
    before: list["Node"] = field(default_factory=list)  # children that were started before the first step
    stages: list[list["Node"]] = field(default_factory=list)
    calls: int = 0

    def child(self, limits: Limits) -> "Node":
        node = Node(Purse(limits, self.purse), limits, self)
        (self.stages[-1] if self.stages else self.before).append(node)
        return node

    def step(self, calls: int) -> None:
        self.purse.begin_step(calls)
        self.stages.append([])
        self.calls += calls

    @property
    def children(self) -> list["Node"]:
        return [child for stage in (self.before, *self.stages) for child in stage]

    def critical(self) -> int:
        stages = [self.before, *self.stages]
        return len(self.stages) + sum(max((child.critical() for child in stage), default=0) for stage in stages)

    def steps(self) -> int:
        return len(self.stages) + sum(child.steps() for child in self.children)

    def tool_calls(self) -> int:
        return self.calls + sum(child.tool_calls() for child in self.children)


def limits(**bounds: int) -> Limits:
    return Limits(max_turns=1000, **bounds)


bounds = st.none() | st.integers(1, 8)
any_limits = st.builds(
    lambda steps, critical, calls: Limits(
        max_turns=1000, max_tokens=50, max_steps=steps, max_critical_steps=critical, max_tool_calls=calls
    ),
    bounds,
    bounds,
    bounds,
)
moves = st.tuples(st.integers(0, 99), st.sampled_from(["step", "step", "child"]), st.integers(0, 2), any_limits)


@given(any_limits, st.lists(moves, max_size=60))
def test_no_limit_is_exceeded_anywhere_in_a_random_tree(root_limits: Limits, plan: list[tuple]) -> None:  # type: ignore[type-arg]
    nodes = [Node(Purse(root_limits), root_limits)]
    for which, move, calls, own in plan:
        node = nodes[which % len(nodes)]
        if move == "child":
            nodes.append(node.child(own))
            continue
        counted = [(one.purse.steps, one.purse.critical_steps) for one in nodes]
        try:
            node.step(calls)
        except Truncated:
            assert [(one.purse.steps, one.purse.critical_steps) for one in nodes] == counted
    for node in nodes:
        assert node.purse.steps == node.steps()
        assert node.purse.critical_steps == node.critical()
        for limit, spent in (
            (node.limits.max_steps, node.steps()),
            (node.limits.max_critical_steps, node.critical()),
            (node.limits.max_tool_calls, node.tool_calls()),
        ):
            assert limit is None or spent <= limit


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), max_size=20))
def test_tokens_are_drawn_from_all_above(draws: list[tuple[int, int]]) -> None:
    root = Purse(Limits(max_turns=1000, max_tokens=60))
    middle = Purse(Limits(max_turns=1000, max_tokens=40), root)
    leaf = Purse(Limits(max_turns=1000, max_tokens=100), middle)
    for which, tokens in draws:
        purse = (root, middle, leaf)[which]
        room = purse.budget_tokens()
        try:
            taken = purse.reserve(tokens)
        except Truncated as limit:
            assert (limit.reason, room) == ("budget", 0)
        else:
            assert 0 < taken <= min(tokens, room)
    assert root.tokens_left >= 0
    assert middle.tokens_left >= 0
    assert root.tokens_left <= 60 - (40 - middle.tokens_left)


def test_children_side_by_side_cost_the_time_of_the_longest() -> None:
    root = Node(Purse(Limits(max_critical_steps=6)), Limits())
    root.step(1)
    root.step(8)
    readers = [root.child(Limits()) for _ in range(8)]
    for reader in readers:
        reader.step(1)
        reader.step(0)
    assert root.purse.critical_steps == 4
    assert root.purse.steps == 18
    root.step(0)
    assert root.purse.critical_steps_left() == 1


def test_a_sibling_may_take_what_a_longer_one_takes_anyway() -> None:
    root = Node(Purse(Limits(max_critical_steps=3)), Limits())
    root.step(2)
    first, second = root.child(Limits()), root.child(Limits())
    first.step(0)
    first.step(0)
    second.step(0)
    second.step(0)
    with pytest.raises(Truncated, match="budget"):
        second.step(0)


def test_a_judges_children_draw_on_another_purse() -> None:
    member = Node(Purse(Limits(max_critical_steps=1)), Limits())
    member.step(0)
    judge = Purse(Limits(max_critical_steps=1))
    Purse(Limits(), judge).begin_step(0)
    assert judge.critical_steps_left() == 0
    assert member.purse.critical_steps == 1


def test_who_has_no_turn_left_takes_none() -> None:
    purse = Purse(Limits(max_turns=1, max_tokens=50))
    assert purse.reserve(10) == 10
    with pytest.raises(Truncated, match="turns"):
        purse.reserve(10)
    assert purse.tokens_left == 40
