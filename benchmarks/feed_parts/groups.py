"""Groups of the sizes that figures are of."""

from dataclasses import replace

import numpy as np

from envhub.contracts.delivery import ClosedGroup
from envhub.contracts.ids import TRAINED, PolicyVersion
from envhub.contracts.messages import Role
from envhub.contracts.outcome import Outcome
from envhub.contracts.trajectory import Row, Trajectory
from envhub.contracts.turn import Span
from envhub.testing.fake_deliveries import closed_group

MEMBERS, TURN = 8, 512  # rows of a group, tokens of a turn


def group_of(number: int, tokens: int) -> ClosedGroup:
    """Eight members of a row of so many tokens, in turns of 512, and 16 at most."""
    group = closed_group(number, np.linspace(0.0, 1.0, MEMBERS))
    outcomes = tuple(_of_many_turns(outcome, tokens, seed) for seed, outcome in enumerate(group.outcomes))
    return replace(group, outcomes=outcomes)


def turns_of(tokens: int) -> int:
    """Of a row."""
    return min(16, max(1, tokens // TURN))


def _of_many_turns(outcome: Outcome, tokens: int, seed: int) -> Outcome:
    """Each turn: as many tokens of an observation as of a reply."""
    rng = np.random.default_rng(seed)
    turns = turns_of(tokens)
    half = tokens // turns // 2
    spans = []
    for turn in range(turns):
        start = 2 * half * turn
        spans.append(Span(start, start + half, Role.TOOL, turn=turn))
        spans.append(
            Span(start + half, start + 2 * half, Role.ASSISTANT, True, True, TRAINED, PolicyVersion(3), 1.0, turn)
        )
    length = 2 * half * turns
    logprobs = -rng.random(length, np.float32)
    row = Row(rng.integers(0, 100_000, length, np.int32), logprobs, tuple(spans), tuple(range(turns)))
    return replace(outcome, trajectory=Trajectory((row,)))
