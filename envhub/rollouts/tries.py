"""Tries: a member, or the judging of its group, is run again until a try of it counts."""

import time

import anyio

from envhub.contracts.events import RolloutStarted
from envhub.contracts.ids import NO_MEMBER, RunId, derive_seed, judging_rollout_id, member_rollout_id
from envhub.contracts.outcome import Failure, Outcome
from envhub.rollouts.case import Case, Kept, judge_of, keep, task_of
from envhub.rollouts.group import RolloutGroup
from envhub.rollouts.versions import Versions
from envhub.rollouts.workers import Workers

BACKOFF_S = 0.5  # before the second try; doubled for each one after
LONGEST_BACKOFF_S = 30.0


class Tries:
    """Those of one run, in which `kept` is what judges of groups keep."""

    def __init__(self, run_id: RunId, seed: int, kept: Kept, workers: Workers, versions: Versions) -> None:
        self._run_id = run_id
        self._seed = seed
        self._kept = kept
        self._workers = workers
        self._versions = versions

    async def run(self, group: RolloutGroup, member: int) -> None:
        """Gives the group the outcome of a member."""
        group.end_member(member, await self._last(group, member))

    async def judge(self, group: RolloutGroup) -> None:
        """Has the group's judge, if it has one, score its members as a whole."""
        if not group.to_judge():
            return
        outcome = await self._last(group, NO_MEMBER)
        group.end_judging(outcome)
        if outcome.judgement:
            keep(self._kept, group.request, outcome.judgement)

    async def _last(self, group: RolloutGroup, member: int) -> Outcome:
        """How the last try of a member, or of the group's judging, ended."""
        again = True

        def tries_again(failure: Failure) -> bool:
            nonlocal again
            again = group.tries_again(member, failure)
            return again

        while True:
            earlier = group.earlier.pop(member, None)
            start = earlier.start if earlier else self._next(group, member)
            case = self._case(group, start) if start.judges else None
            outcome = await self._workers.run(start, tries_again, earlier, group.standing(member), case)
            if outcome.failure is None or not again:
                return outcome
            await anyio.sleep(min(BACKOFF_S * 2 ** max(0, group.failures[member] - 1), LONGEST_BACKOFF_S))

    def _next(self, group: RolloutGroup, member: int) -> RolloutStarted:
        """What the next try begins with."""
        attempt = group.attempts[member]
        group.attempts[member] += 1
        judging = member == NO_MEMBER
        id = judging_rollout_id(group.id, attempt) if judging else member_rollout_id(group.id, member, attempt)
        request = group.request.rollout
        seed = (self._seed, group.number) if group.request.seed is None else (group.request.seed,)
        return RolloutStarted(
            run_id=self._run_id,
            at=time.time(),
            rollout_id=id,
            group_id=group.id,
            member=member,
            attempt=attempt,
            parent=None,
            root=id,
            request=request,
            seed=derive_seed(*seed, member, attempt),
            environment_seed=derive_seed(*seed) if request.task.seed is None else request.task.seed,
            group_judged=not judging and judge_of(group.request.group_judge, request) is not None,
            judges=group.to_judge() if judging else (),
        )

    def _case(self, group: RolloutGroup, start: RolloutStarted) -> Case:
        version = self._versions.newest(start.request.policy_id)
        return group.case(start.judges, version, self._kept.get(task_of(group.request), {}))
