"""Timeline: what each rollout of a tree did when, and the chain of them that decided how long it took."""

from collections.abc import Sequence
from dataclasses import dataclass

from envhub.contracts.ids import RolloutId
from envhub.contracts.store import BrowsableStore, RolloutSummary
from envhub.monitor.critical_path import CriticalPart, critical_path
from envhub.monitor.phases import Life, PhaseKind, lives

CHUNK = 50  # rollouts read at once


@dataclass(frozen=True, slots=True)
class Segment:
    """What a rollout did from `start` to `end`, seconds from the start of the root."""

    kind: PhaseKind
    label: str  # the tools, the policy, the judge or the environment
    start: float
    end: float
    turn: int  # that it belongs to; -1: none
    step: int
    critical: bool  # nothing but this was going on in the chain that decided


@dataclass(frozen=True, slots=True)
class Lane:
    """One rollout. Its segments tile its life."""

    rollout_id: RolloutId
    parent: RolloutId | None
    depth: int
    start: float
    end: float
    critical: bool
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class CriticalSpan:
    """A part of the chain that decided how long the tree took."""

    rollout_id: RolloutId
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A tree of rollouts over time."""

    started_at: float  # of the root, seconds since the epoch
    seconds: float
    running: bool
    lanes: list[Lane]  # parents first
    critical_path: list[CriticalSpan]  # they follow each other from start to end


async def tree_lives(store: BrowsableStore, tree: Sequence[RolloutSummary]) -> dict[RolloutId, Life]:
    """Of all its rollouts."""
    ids = [one.rollout_id for one in tree]
    found = [await store.events_of(tree[0].run_id, ids[at : at + CHUNK]) for at in range(0, len(ids), CHUNK)]
    return lives(event for events in found for event in events)


def timeline(tree: Sequence[RolloutSummary], lives: dict[RolloutId, Life], now: float) -> Timeline:
    """Of a tree, parents first; `now` is where those that run have come to."""
    root = tree[0]
    began = root.started_at
    running = root.ended_at is None
    now = max([life.last_at for life in lives.values()], default=began) if not running else now
    path = critical_path(tree, now)
    depths = depths_of(tree)
    lanes = [_lane(one, lives[one.rollout_id], depths[one.rollout_id], path, began, now) for one in tree]
    return Timeline(
        started_at=began,
        seconds=(root.ended_at or now) - began,
        running=running,
        lanes=lanes,
        critical_path=[CriticalSpan(part.rollout_id, part.started_at - began, part.ended_at - began) for part in path],
    )


def depths_of(tree: Sequence[RolloutSummary]) -> dict[RolloutId, int]:
    """How deep below its root each rollout lies; `tree` has parents first."""
    depths: dict[RolloutId, int] = {}
    for one in tree:
        depths[one.rollout_id] = depths.get(one.parent, -1) + 1 if one.parent else 0
    return depths


def _lane(
    summary: RolloutSummary, life: Life, depth: int, path: Sequence[CriticalPart], began: float, now: float
) -> Lane:
    own = [part for part in path if part.rollout_id == summary.rollout_id]
    return Lane(
        rollout_id=summary.rollout_id,
        parent=summary.parent,
        depth=depth,
        start=summary.started_at - began,
        end=(summary.ended_at or now) - began,
        critical=bool(own),
        segments=[
            Segment(
                kind=phase.kind,
                label=phase.name,
                start=phase.started_at - began,
                end=phase.ended_at - began,
                turn=phase.turn,
                step=phase.step,
                critical=any(p.started_at < phase.ended_at and p.ended_at > phase.started_at for p in own),
            )
            for phase in life.phases(now)
        ],
    )
