"""The critical path of a tree of rollouts: the chain that decided how long the tree took."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from envhub.contracts.ids import RolloutId
from envhub.contracts.store import RolloutSummary


@dataclass(frozen=True, slots=True)
class CriticalPart:
    """A part of the chain: then this rollout, and none that it had started, was what all waited for."""

    rollout_id: RolloutId
    started_at: float
    ended_at: float


def critical_path(tree: Sequence[RolloutSummary], now: float) -> list[CriticalPart]:
    """From the start of the root, which comes first, to its end, or to `now` where it runs, without a gap.

    Backwards from the end: of the children that had ended by then the one that ended last, and before it began the
    parent again.
    """
    children: dict[RolloutId, list[RolloutSummary]] = defaultdict(list)
    for one in tree[1:]:
        if one.parent is not None:
            children[one.parent].append(one)
    for siblings in children.values():
        siblings.sort(key=lambda one: _end(one, now), reverse=True)
    return [] if not tree else list(_backwards(tree[0], children, _end(tree[0], now), now))[::-1]


def _backwards(
    one: RolloutSummary, children: Mapping[RolloutId, Sequence[RolloutSummary]], end: float, now: float
) -> Iterator[CriticalPart]:
    at = end
    for child in children.get(one.rollout_id, ()):
        ended = min(_end(child, now), end)
        if ended > at or ended <= one.started_at:
            continue  # another one was waited for longer
        if at > ended:
            yield CriticalPart(one.rollout_id, ended, at)
        yield from _backwards(child, children, ended, now)
        at = child.started_at
    if at > one.started_at:
        yield CriticalPart(one.rollout_id, one.started_at, at)


def _end(one: RolloutSummary, now: float) -> float:
    return now if one.ended_at is None else one.ended_at
