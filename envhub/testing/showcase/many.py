"""Many short rollouts in groups of K, over policy versions that learn: what fills the lists and the curves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from envhub.contracts.events import (
    Event,
    GroupAcked,
    GroupClosed,
    GroupLeased,
    GroupSubmitted,
    RolloutEnded,
    RolloutStarted,
    TurnRecorded,
    VersionAnnounced,
)
from envhub.contracts.ids import TRAINED, EnvironmentId, GroupId, LeaseId, PolicyVersion, RunId, group_id
from envhub.contracts.ids import member_rollout_id as rollout_id
from envhub.contracts.messages import Message, Role
from envhub.contracts.outcome import Failure, Status
from envhub.contracts.rollout import EnvironmentRef, GroupRequest, RolloutRequest
from envhub.contracts.score import Score
from envhub.contracts.task import Task
from envhub.contracts.turn import Finish, Fork, Sampling, Span, Timings, Turn
from envhub.contracts.usage import Usage
from envhub.errors import Boundary
from envhub.testing.showcase.vocabulary import Vocabulary
from envhub.testing.showcase.writer import logprobs

K = 8
TASKS = 48  # of an environment
VERSIONS = 24
LONGEST = 900  # tokens
LEASE_S = 60.0
ENVIRONMENTS = ("demo/sums-v0", "demo/repair-v0", "demo/search-v0", "demo/charts-v0")
FAULTS = {
    Boundary.POLICY: "policy 'helper' has no engine",
    Boundary.AGENT: "the agent's process exited with 137",
    Boundary.ENGINE: "the engine answered 503 for 30 s",
    Boundary.GATEWAY: "request body is 70 MB; the limit is 64 MB",
    Boundary.TOOL: "tool 'search' raised TimeoutError after 30 s",
    Boundary.SANDBOX: "the sandbox's agent did not answer within 5 s",
    Boundary.JUDGE: "judge 'rubric' gave NaN for 'style'",
    Boundary.ENVIRONMENT: "reset() raised KeyError: 'board'",
    Boundary.OPERATOR: "cancelled by the operator",
}
ANSWERS = ("The total is 42.", "I fixed the off-by-one in parse().", "Paris, by the 1801 census.", "About 3,400.")


@dataclass(frozen=True, slots=True)
class Many:
    """Groups from `first` on, spread over `seconds`."""

    run_id: RunId
    vocabulary: Vocabulary
    random: np.random.Generator
    started_at: float
    seconds: float
    groups: int
    first: int = 0

    def events(self) -> Iterator[list[Event]]:
        """A batch a group."""
        pool = self._tokens()
        announced = -1
        for place in range(self.groups):
            version = place * VERSIONS // self.groups
            at = self.started_at + self.seconds * place / self.groups
            batch: list[Event] = []
            if version > announced:
                announced = version
                batch.append(VersionAnnounced(self.run_id, at, TRAINED, PolicyVersion(version)))
            yield batch + self._group(self.first + place, at, version, pool)

    def _tokens(self) -> Turn:
        """One long turn, of which every rollout takes a beginning."""
        ids = self.vocabulary.encode(" ".join(ANSWERS) * (LONGEST // 16))[:LONGEST]
        prompt = self.vocabulary.encode("<user>What is asked of you stands here.</user><assistant>")
        sampled = logprobs(self.random, len(ids))
        nothing = Message.assistant("")
        return Turn(
            0, TRAINED, None, Fork.NONE, (), (), prompt, ids, sampled, (), nothing, Finish.STOP, Sampling(), {}, "exact"
        )

    def _group(self, number: int, at: float, version: int, pool: Turn) -> list[Event]:
        environment = ENVIRONMENTS[number % len(ENVIRONMENTS)]
        task = int(self.random.integers(TASKS))
        request = _request(environment, task)
        group = group_id(self.run_id, number)
        events: list[Event] = [GroupSubmitted(self.run_id, at, group, number, GroupRequest(request, K))]
        skill = _chance(number % len(ENVIRONMENTS), task, version)
        ends = [self._member(events, group, member, request, at, version, skill, pool) for member in range(K)]
        scored = tuple(member for member, end in enumerate(ends) if end.score is not None)
        closed = max(end.at for end in ends)
        events.append(GroupClosed(self.run_id, closed, group, scored, PolicyVersion(version)))
        if scored:
            lease = LeaseId(f"{group}@1")
            events.append(GroupLeased(self.run_id, closed + 0.2, group, lease, "trainer", 1, closed + LEASE_S))
            events.append(GroupAcked(self.run_id, closed + 1.4, group, lease))
        return events

    def _member(
        self,
        events: list[Event],
        group: GroupId,
        member: int,
        request: RolloutRequest,
        at: float,
        version: int,
        skill: float,
        pool: Turn,
    ) -> RolloutEnded:
        id = rollout_id(group, member, 0)
        began = at + 0.05 * member
        events.append(
            RolloutStarted(self.run_id, began, id, group, member, 0, None, id, request, number_of(id), number_of(group))
        )
        tokens = min(LONGEST, int(self.random.lognormal(4.2 + 0.045 * version, 0.6)) + 4)
        took = 0.12 + tokens / 60 * float(self.random.lognormal(0, 0.25))
        answer = ANSWERS[int(self.random.integers(len(ANSWERS)))]
        turn = _turn(pool, request, answer, tokens, max(0, version - int(self.random.integers(3))), began, took)
        events.append(TurnRecorded(self.run_id, began + took, id, turn))
        usage = Usage(1, len(turn.delta_ids), tokens, tokens, 1)
        end = self._end(
            RolloutEnded(self.run_id, began + took, id, Status.COMPLETED, None, None, "", answer, usage), skill
        )
        events.append(end)
        return end

    def _end(self, end: RolloutEnded, skill: float) -> RolloutEnded:
        luck = float(self.random.random())
        if luck < 0.012:
            boundary = list(FAULTS)[int(luck / 0.012 * len(FAULTS))]
            return replace(end, status=Status.FAILED, failure=Failure(boundary, FAULTS[boundary], retryable=False))
        if luck < 0.016:
            return replace(end, status=Status.CANCELLED)
        correct = float(self.random.random() < skill)
        brief = float(np.round(min(0.0, self.random.uniform(-0.2, 0.4)), 3))
        score = Score(max(0.0, correct + brief), {"correct": correct, "brevity": brief}, "", {"correct": 0.004})
        if luck < 0.06:
            return replace(end, status=Status.TRUNCATED, truncated_by="length", score=score)
        return replace(end, score=score)


def number_of(id: str) -> int:
    """A seed that differs from id to id."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(id[-8:]))


def _chance(environment: int, task: int, version: int) -> float:
    """Of success: tasks differ in how hard they are, environments in how fast they are learned."""
    ease = 3.0 * (task / TASKS) - 2.2 + 0.5 * environment
    return float(1 / (1 + np.exp(-(ease + (0.20 - 0.03 * environment) * version))))


@lru_cache
def _request(environment: str, task: int) -> RolloutRequest:
    name = environment.split("/")[1].split("-")[0]
    question = f"{name}, number {task}: what is asked of you stands here."
    return RolloutRequest(EnvironmentRef(EnvironmentId(environment)), Task.ask(question, "42", id=f"{name}-{task:02}"))


def _turn(
    pool: Turn, request: RolloutRequest, answer: str, tokens: int, version: int, began: float, took: float
) -> Turn:
    span = Span(0, tokens, Role.ASSISTANT, True, True, TRAINED, PolicyVersion(version), 1.0, 0)
    return replace(
        pool,
        messages=request.task.prompt,
        output_ids=pool.output_ids[:tokens],
        logprobs=pool.logprobs[:tokens],
        spans=(span,),
        response=Message.assistant(answer),
        timings=Timings(began + 0.05, began + 0.12, began + took),
    )
