"""RecordedEnvironment: an environment whose steps go into the trace, whichever agent drives it."""

import time
from dataclasses import replace

from envhub.contracts.context import Context
from envhub.contracts.environment import Environment, Observation, Resume, StepResult
from envhub.contracts.events import StepRecorded
from envhub.contracts.policy import Action
from envhub.contracts.step import Step
from envhub.contracts.task import Task
from envhub.errors import Boundary, boundary
from envhub.rollouts.live import LiveRollout, left_behind
from envhub.rollouts.recorder import check_recordable
from envhub.rollouts.replay import SKIPPING, check_same, result_of, way_of
from envhub.rollouts.rollout_files import RolloutFiles


class RecordedEnvironment(Environment):
    """Steps that another process had recorded are taken from its records, or done again and compared."""

    def __init__(self, inner: Environment, live: LiveRollout) -> None:
        self._inner = inner
        self._live = live
        self._way = way_of(live.start)
        if self._way is Resume.SNAPSHOT:
            taken = live.replay.snapshots if live.replay else ()
            live.files = RolloutFiles(live.start, live.platform.snapshots, live.platform.recorder, taken)
        self.judge = inner.judge
        self.tools = inner.tools
        self.sandbox = inner.sandbox

    async def reset(self, task: Task, *, seed: int, ctx: Context) -> Observation:
        live = self._live
        live.acting = Boundary.ENVIRONMENT
        try:
            with boundary(Boundary.ENVIRONMENT):
                observation = await self._inner.reset(task, seed=seed, ctx=ctx)
                await live.restore_files()
        finally:
            live.acting = Boundary.AGENT
        self.tools = self._inner.tools  # a task may bring tools of its own
        live.messages.extend(observation.messages)
        live.given = len(live.messages)
        return observation

    async def step(self, action: Action) -> StepResult:
        if self._live.acted:
            raise left_behind()
        self._live.purse.begin_step(len(action.message.tool_calls))
        replay = self._live.replay
        recorded = replay.step(action) if replay else None
        if replay is None or recorded is None:
            return await self._new_step(action)
        started_at, result = time.time(), result_of(recorded)
        if not replay.skips:
            result = await self._inner_step(action)
            check_same(recorded, self._step_of(action, result, started_at))
            result = replace(result, observation=replace(result.observation, messages=recorded.observation))
        for child in replay.forget(recorded):
            self._live.take_child(child, self._live.purse)
        self._live.take_step(recorded, result.info)
        return result

    async def _new_step(self, action: Action) -> StepResult:
        if self._way is Resume.RECORDS and action.message.tool_calls:
            # Its tools act on what may outlive this process: they must never have done what is recorded nowhere.
            await self._live.platform.recorder.flush()
        started_at = time.time()
        result = await self._inner_step(action)
        step = self._step_of(action, result, started_at)
        if step.info:
            with boundary(Boundary.ENVIRONMENT):
                check_recordable(StepRecorded(self._live.start.run_id, 0.0, self._live.id, step))
        if self._live.files is not None:
            await self._live.save_files(self._live.files)
        self._live.record_step(step, result.info)
        return result

    async def _inner_step(self, action: Action) -> StepResult:
        self._live.acting = Boundary.ENVIRONMENT
        try:
            with boundary(Boundary.ENVIRONMENT):
                return _as_recorded(await self._inner.step(action))
        finally:
            self._live.acting = Boundary.AGENT

    def _step_of(self, action: Action, result: StepResult, started_at: float) -> Step:
        return Step(
            index=self._live.steps,
            turn=action.turn,
            action=action.message,
            observation=result.observation.messages,
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            started_at=started_at,
            ended_at=time.time(),
            info=result.info if self._way in SKIPPING else {},
        )


def _as_recorded(result: StepResult) -> StepResult:
    """With the types that the record promises, whatever an environment made of them (numpy's, None)."""
    if type(result.reward) is float and type(result.terminated) is bool and type(result.truncated) is bool:
        return result
    return replace(
        result,
        reward=float(result.reward),
        terminated=bool(result.terminated),
        truncated=bool(result.truncated),
    )
