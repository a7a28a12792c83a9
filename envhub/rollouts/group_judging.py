"""The judging of a group: a rollout of its own, which has no member, no environment and no agent.

What its judge asks of policies, and the rollouts that it starts, are recorded in it. Else it is like a member's judge:
the same deadline, a budget of its own, nothing that trains.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from envhub.contracts.events import RolloutStarted, RunStarted
from envhub.contracts.messages import JsonValue
from envhub.contracts.outcome import Failure, Outcome
from envhub.contracts.score import Judgement
from envhub.environments.grace import Grace
from envhub.errors import Boundary, boundary
from envhub.rollouts.admission import Claim, Precedence, Slot
from envhub.rollouts.case import Case, judge_of
from envhub.rollouts.clock import EpisodeClock
from envhub.rollouts.context import RolloutContext
from envhub.rollouts.episode import claim, ended_unless_resumed, recorded, run_child
from envhub.rollouts.judging import judged_group
from envhub.rollouts.live import Ending, LiveRollout, Tree
from envhub.rollouts.platform import Platform
from envhub.rollouts.purse import Purse
from envhub.rollouts.recorder import check_recordable
from envhub.rollouts.replay import Records
from envhub.rollouts.rollout_sandboxes import RolloutSandboxes


class GroupJudgeContext(RolloutContext):
    """What the judge of one group may ask."""

    def __init__(self, live: LiveRollout, kept: Mapping[str, JsonValue]) -> None:
        super().__init__(live, run_child, for_judge=True)
        self._kept = dict(kept)
        self.added: dict[str, JsonValue] = {}

    @property
    def kept(self) -> Mapping[str, JsonValue]:
        return MappingProxyType(self._kept)

    def keep(self, key: str, value: JsonValue) -> JsonValue:
        self._check_open()
        check_recordable(RunStarted(self._live.start.run_id, 0.0, 0, {key: value}))
        if key not in self._kept:
            self._kept[key] = self.added[key] = value
        return self._kept[key]


async def run_judging(
    start: RolloutStarted,
    case: Case,
    platform: Platform,
    tries_again: Callable[[Failure], bool],
    earlier: Records | None,
    standing: Claim,
) -> Outcome:
    """Runs one try of the judging of a group; see run_member."""
    limits = start.request.limits
    tree = Tree(max_live=limits.max_live, live=1)
    slot = Slot(platform.slots, claim(standing, start.request, platform))
    with ended_unless_resumed(earlier, platform):
        async with slot.hold(Precedence.CHILD):
            clock, purse = EpisodeClock(limits.deadline_s), Purse(limits)
            sandboxes = RolloutSandboxes(platform.sandboxes)
            live = LiveRollout(start, platform, tree, (), tries_again, slot, clock, purse, sandboxes)
            return await recorded(live, earlier, partial(_judged, case))


async def _judged(case: Case, live: LiveRollout) -> Ending:
    with boundary(Boundary.OPERATOR):
        judge = judge_of(case.judge, live.start.request)
        assert judge is not None  # or there would be no case
        ctx = GroupJudgeContext(live, case.kept)
        grace = Grace(live.platform.grace_s, live)
        async with live.sandboxes:
            try:
                scores = await judged_group(judge, case.episodes, ctx, live.clock, grace)
            finally:
                await ctx.close()
            live.check_replayed()
    return Ending(judgement=Judgement(live.start.judges, scores, ctx.added))
