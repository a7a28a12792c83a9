"""LiveRollout: the state of one running rollout, and the recording of all it does."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from functools import partial
from operator import attrgetter

from envhub.contracts.events import (
    CallRecorded,
    EpisodeRecorded,
    LogRecorded,
    RolloutContinued,
    RolloutEnded,
    RolloutPaused,
    RolloutResumed,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.outcome import Failure, Outcome, Status
from envhub.contracts.raw_call import RawCall
from envhub.contracts.sandbox import Sandbox, SandboxSpec, Snapshot
from envhub.contracts.score import JudgeInput, Judgement, Score, last_response
from envhub.contracts.step import Step
from envhub.contracts.trajectory import Trajectory
from envhub.contracts.turn import Turn
from envhub.contracts.usage import Usage
from envhub.contracts.waiting import Holder
from envhub.errors import Boundary, Fault
from envhub.rollouts.admission import Slot
from envhub.rollouts.clock import EpisodeClock
from envhub.rollouts.pause import Gate
from envhub.rollouts.platform import Platform
from envhub.rollouts.purse import Purse
from envhub.rollouts.replay import EarlierChild, Records, Replay
from envhub.rollouts.rollout_files import RolloutFiles
from envhub.rollouts.rollout_sandboxes import RolloutSandboxes
from envhub.rollouts.versions import FIRST
from envhub.tokens.ledger import Ledger
from envhub.tokens.rows import rows_of

_after_at = attrgetter(*[each.name for each in fields(RolloutStarted)][2:])  # dataclasses.replace takes 5 us longer


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a rollout that did not fail."""

    truncated_by: str = ""
    score: Score | None = None
    judgement: Judgement | None = None  # of the judging of a group


@dataclass(slots=True)
class Tree:
    """What a root and all rollouts below it share."""

    max_live: int
    live: int = 0


@dataclass(slots=True, eq=False)
class LiveRollout:
    """One running rollout. What it did so far is here and, as events, in the trace."""

    start: RolloutStarted
    platform: Platform
    tree: Tree
    ancestors: tuple[RolloutId, ...]
    tries_again: Callable[[Failure], bool]  # whether its member gets another try after that failure; counted
    slot: Slot
    clock: EpisodeClock  # of the episode, then of its judge
    purse: Purse
    sandboxes: RolloutSandboxes
    gate: Gate = field(init=False)  # there while it runs
    outcome: Outcome | None = None  # once it has ended
    episode: JudgeInput | None = None  # once its agent has acted, if the judge of its group will ask for it
    acting: Boundary = Boundary.AGENT  # whose code has its turn
    acted: bool = False  # its agent has; what that left behind may do no more
    ledger: Ledger = field(default_factory=Ledger)
    files: RolloutFiles | None = None  # of its sandboxes, where it resumes from them
    replay: Replay | None = None  # of what another process recorded of it
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    given: int = 0  # of them, by the environment before the agent acted
    children: dict[int, Outcome] = field(default_factory=dict)  # by ordinal; those that ended
    steps: int = 0
    tool_calls: int = 0
    policy_tokens: int = 0
    episode_return: float = 0.0
    step_turns: list[int] = field(default_factory=list)  # of each step, the turn that sampled its action; -1: none did
    turn_rewards: dict[int, float] = field(default_factory=dict)  # what its steps gave, where they gave any
    last_info: Mapping[str, object] = field(default_factory=dict)
    _ordinal: int = 0  # of the next child
    _started: int = 0  # children
    _holds: int = 0  # calls that a pause holds
    _awaited: int = 0  # batches of children that it waits for

    @property
    def id(self) -> RolloutId:
        return self.start.rollout_id

    def begin(self, earlier: Records | None) -> None:
        """Starts it, or goes on with what another process recorded of it."""
        if earlier is None:
            self.platform.recorder.emit(RolloutStarted(self.start.run_id, time.time(), *_after_at(self.start)))
            return
        earlier.resumed = True
        self.platform.recorder.emit(RolloutResumed(self.start.run_id, time.time(), self.id))
        self.replay = Replay(earlier)
        self.ledger = Ledger(self.replay.turns)
        self._started = len(self.replay.ordinals)
        self._spend_lost(self.purse, for_judge=False)

    def judge_purse(self) -> Purse:
        """The budget of its judge, as large as its own."""
        purse = Purse(self.start.request.limits)
        self._spend_lost(purse, for_judge=True)
        return purse

    def _spend_lost(self, purse: Purse, *, for_judge: bool) -> None:
        """Takes what children spent that another process started and whose end nobody heard of."""
        for start, outcome in self.replay.lost if self.replay else ():
            if start.for_judge is for_judge:
                Purse(start.request.limits, purse).spend(outcome.usage)

    @property
    def busy(self) -> bool:
        """Whether it waits for children, each of which ends within limits of its own."""
        return self._awaited > 0

    @contextmanager
    def awaiting(self) -> Iterator[None]:
        """It waits for children within."""
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1

    def record_turn(self, turn: Turn) -> None:
        self.turns.append(turn)
        if not self.acted and turn.policy_id == self.start.request.policy_id:
            self.policy_tokens += len(turn.output_ids)
        if self.platform.iteration:
            self.platform.iteration.sampled(len(turn.output_ids))
        if self.replay is None or not self.replay.has(turn):
            self.platform.recorder.emit(TurnRecorded(self.start.run_id, time.time(), self.id, turn))
        self.sandboxes.heartbeat()

    def record_step(self, step: Step, info: Mapping[str, object]) -> None:
        self.take_step(step, info)
        self.platform.recorder.emit(StepRecorded(self.start.run_id, step.ended_at, self.id, step))

    def take_step(self, step: Step, info: Mapping[str, object]) -> None:
        """Notes a step that is recorded."""
        self.messages += [step.action, *step.observation]
        self.episode_return += step.reward
        self.step_turns.append(step.turn)
        if step.reward:
            self.turn_rewards[step.turn] = self.turn_rewards.get(step.turn, 0.0) + step.reward
        self.last_info = info
        self.steps += 1
        self.tool_calls += len(step.action.tool_calls)

    def take_child(self, child: EarlierChild, purse: Purse) -> Outcome | None:
        """The outcome of a child that ended in another process, on that purse; None where it goes on."""
        if not isinstance(child.found, Outcome):
            return None
        Purse(child.start.request.limits, purse).spend(child.found.usage)
        self.children[child.ordinal] = child.found
        return child.found

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """A pause holds one of its calls: meanwhile its slot is for others, its sandboxes may be, and its time stands
        still."""
        self._holds += 1
        if self._holds == 1:
            self.platform.recorder.emit(RolloutPaused(self.start.run_id, time.time(), self.id))
        try:
            with self.clock.stopped():
                async with (
                    self.slot.away(),
                    self.sandboxes.parked() if self.platform.parks_sandboxes else nullcontext(),
                ):
                    yield
        finally:
            self._holds -= 1
            if not self._holds:
                self.platform.recorder.emit(RolloutContinued(self.start.run_id, time.time(), self.id))

    def judge_input(self, truncated_by: str) -> JudgeInput:
        """What its judge is given, as of now."""
        request = self.start.request
        return JudgeInput(
            task=request.task,
            messages=tuple(self.messages),
            episode_return=self.episode_return,
            truncated_by=truncated_by,
            info=dict(self.last_info),
            given=self.given,
            iteration=self.platform.versions.get(request.policy_id, FIRST),
            usage=self._usage(),
            turns=tuple(self.step_turns),
        )

    def record_episode(self, episode: JudgeInput) -> None:
        """Puts it by for the judge of its group, if that has one."""
        if not self.start.group_judged:
            return
        self.episode = episode
        if self.replay is None or not self.replay.has_episode:
            event = EpisodeRecorded(
                self.start.run_id, time.time(), self.id, replace(episode, messages=episode.messages[: self.given])
            )
            self.platform.recorder.emit(event)

    def record_call(self, call: RawCall) -> None:
        """Keeps what went over the gateway's wire for one of its turns."""
        self.platform.recorder.emit(CallRecorded(self.start.run_id, time.time(), self.id, call))

    def log(self, message: str, fields: Mapping[str, object]) -> None:
        if self.replay is None or not self.replay.logged(message):
            self.platform.recorder.emit(LogRecorded(self.start.run_id, time.time(), self.id, message, fields))

    def check_replayed(self) -> None:
        """
        Raises:
            Fault: agent: it did not do again what another process had recorded of it.
        """
        if self.replay is not None:
            self.replay.check(self.ledger.unclaimed)

    def next_child(self) -> int:
        """The ordinal of the next rollout that this one starts."""
        while self.replay and self._ordinal in self.replay.ordinals:
            self._ordinal += 1
        self._ordinal += 1
        self._started += 1
        return self._ordinal - 1

    @property
    def holder(self) -> Holder:
        """Who asks the pools for a place."""
        return Holder(self.id, self.ancestors, self.start.request.environment.id, self.slot.claim.priority)

    async def sandbox(self, spec: SandboxSpec, files: Snapshot | None = None) -> Sandbox:
        """As RolloutSandboxes.get."""
        return await self.sandboxes.get(spec, files, self.holder, self._waiting)

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        """It waits for a sandbox. Who has one may be waiting for a slot: so it must not keep one."""
        with self.clock.stopped():
            async with self.slot.lend():
                yield

    async def save_files(self, files: RolloutFiles) -> None:
        """Saves those that the step which is recorded next left in its sandboxes."""
        with self.clock.stopped():
            await files.save(self.steps, self.sandboxes.leases)

    async def restore_files(self) -> None:
        """Brings back those that the last recorded step left, where it goes on and resumes from them."""
        if self.files is not None and self.replay is not None:
            with self.clock.stopped():
                await self.files.restore(self.replay.steps, self.sandbox)

    def end(self, status: Status, ending: Ending = Ending(), *, failure: Failure | None = None) -> Outcome:
        """The outcome, also put into the trace."""
        usage = self._usage()
        judgement = ending.judgement or (Judgement(self.start.judges) if self.start.judges else None)
        self.outcome = outcome = Outcome(
            rollout_id=self.id,
            status=status,
            trajectory=Trajectory(partial(rows_of, self.turns)),
            score=ending.score,
            failure=failure,
            truncated_by=ending.truncated_by,
            response=last_response(self.messages[self.given :]),
            usage=usage,
            children=tuple(self.children[ordinal] for ordinal in sorted(self.children)),
            episode=self.episode,
            judgement=judgement,
        )
        for child in self.replay.left_running() if self.replay else ():
            for event in child.end():
                self.platform.recorder.emit(event)
        self.platform.recorder.emit(
            RolloutEnded(
                run_id=self.start.run_id,
                at=time.time(),
                rollout_id=self.id,
                status=status,
                score=ending.score,
                failure=failure,
                truncated_by=ending.truncated_by,
                response=outcome.response,
                usage=usage,
                requeued=self._requeued(status, failure),
                judgement=judgement,
            )
        )
        return outcome

    def _usage(self) -> Usage:
        """What it spent so far."""
        return Usage(
            turns=len(self.turns),
            prompt_tokens=sum(len(turn.delta_ids) for turn in self.turns),
            sampled_tokens=sum(len(turn.output_ids) for turn in self.turns),
            policy_tokens=self.policy_tokens,
            steps=self.steps,
            tool_calls=self.tool_calls,
            children=self._started,
            finished_children=sum(outcome.status is Status.COMPLETED for outcome in self.children.values()),
            critical_steps=self.purse.critical_steps,
            tree_steps=self.purse.steps,
            tree_tokens=self.purse.tokens,
            tree_tool_calls=self.purse.tool_calls,
        )

    def _requeued(self, status: Status, failure: Failure | None) -> bool:
        is_root = self.start.parent is None
        if status is Status.CANCELLED:
            return is_root and not self.gate.aborted
        return is_root and failure is not None and self.tries_again(failure)


def left_behind() -> Fault:
    """What code gets that goes on after the episode that it belongs to."""
    return Fault("the episode is over: whatever its code starts has to end before it", Boundary.AGENT)
