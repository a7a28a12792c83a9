"""Writer: the events of one rollout, turn by turn, with tokens that tell its text."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from envhub.contracts.events import (
    CallRecorded,
    Event,
    LogRecorded,
    RolloutEnded,
    RolloutStarted,
    StepRecorded,
    TurnRecorded,
)
from envhub.contracts.ids import TRAINED, GroupId, PolicyId, PolicyVersion, RolloutId, RunId
from envhub.contracts.messages import Message, Role
from envhub.contracts.outcome import Failure, Status
from envhub.contracts.raw_call import RawBody, RawCall
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.score import Score
from envhub.contracts.step import Step
from envhub.contracts.turn import Finish, Fork, Ids, Logprobs, Sampling, Span, Timings, Turn
from envhub.contracts.usage import Usage
from envhub.testing.showcase.vocabulary import Vocabulary

TOKENS_A_SECOND = 60.0
PREFILL_S = 0.12


@dataclass(slots=True)
class Writer:
    """`now` moves on with what the rollout does. Turns go on from the one before unless told otherwise."""

    run_id: RunId
    vocabulary: Vocabulary
    random: np.random.Generator
    start: RolloutStarted
    now: float
    version: int = 0
    policy_id: PolicyId = TRAINED
    trainable: bool = True
    usage: Usage = Usage()
    events: list[Event] = field(default_factory=list)

    @classmethod
    def begin(
        cls,
        at: float,
        vocabulary: Vocabulary,
        random: np.random.Generator,
        request: RolloutRequest,
        rollout_id: RolloutId,
        group_id: GroupId,
        run_id: RunId,
        *,
        member: int = 0,
        parent: RolloutId | None = None,
        root: RolloutId | None = None,
        version: int = 0,
    ) -> "Writer":
        start = RolloutStarted(
            run_id, at, rollout_id, group_id, member, 0, parent, root or rollout_id, request, seed=1, environment_seed=2
        )
        writer = cls(run_id, vocabulary, random, start, at, version, trainable=parent is None)
        writer.events.append(start)
        return writer

    @property
    def id(self) -> RolloutId:
        return self.start.rollout_id

    def turn(
        self,
        messages: Sequence[Message],
        response: Message,
        *,
        parent: int | None = -1,
        fork: Fork = Fork.NONE,
        versions: Sequence[int] = (),
        wait_s: float = 0.05,
    ) -> Turn:
        """One model call. `parent` -1: the turn before. `versions`: the output is cut into as many spans."""
        index = self.usage.turns
        parent = (index - 1 if index else None) if parent == -1 else parent
        prompt = self.vocabulary.encode("".join(f"<{m.role}>{m.content}</{m.role}>" for m in messages) + "<assistant>")
        output = self.vocabulary.encode(_sampled_text(response))
        began = self.now + wait_s
        ended = began + PREFILL_S + len(output) / TOKENS_A_SECOND
        turn = Turn(
            index=index,
            policy_id=self.policy_id,
            parent=parent,
            fork=fork,
            messages=tuple(messages),
            tools=("python", "search"),
            delta_ids=prompt,
            output_ids=output,
            logprobs=logprobs(self.random, len(output)),
            spans=self._spans(output, index, versions or (self.version,)),
            response=response,
            finish=Finish.STOP,
            sampling=Sampling(temperature=1.0, max_tokens=4096, seed=index),
            asked={},
            logprob_kind="exact",
            timings=Timings(began, began + PREFILL_S, ended),
        )
        self.now = ended
        self._record(turn)
        return turn

    def wire(self, turn: Turn) -> None:
        """What the turn looked like on the gateway's wire."""
        asked = [{"role": one.role.value, "content": one.content} for one in turn.messages]
        request = {"model": turn.policy_id, "messages": asked, "temperature": turn.sampling.temperature}
        choice = {"index": 0, "message": {"role": "assistant", "content": turn.response.content}}
        answer = {"object": "chat.completion", "choices": [{**choice, "finish_reason": turn.finish.value}]}
        sent = {"content-type": "application/json", "user-agent": "showcase/1", "authorization": "(hidden)"}
        call = RawCall(
            turn.index,
            "POST",
            "/v1/chat/completions",
            sent,
            _body(request),
            200,
            {"content-type": "application/json"},
            _body(answer),
        )
        self.events.append(CallRecorded(self.run_id, self.now, self.id, call))

    def step(self, turn: Turn, observation: Sequence[Message], *, took_s: float, reward: float = 0.0) -> None:
        began, self.now = self.now, self.now + took_s
        ends = reward != 0.0
        step = Step(turn.index, turn.index, turn.response, tuple(observation), reward, ends, False, began, self.now)
        self.events.append(StepRecorded(self.run_id, self.now, self.id, step))
        calls = len(turn.response.tool_calls)
        self.usage = replace(self.usage, steps=self.usage.steps + 1, tool_calls=self.usage.tool_calls + calls)

    def log(self, message: str, **fields: object) -> None:
        self.events.append(LogRecorded(self.run_id, self.now, self.id, message, fields))

    def end(
        self,
        status: Status = Status.COMPLETED,
        *,
        score: Score | None = None,
        failure: Failure | None = None,
        truncated_by: str = "",
        response: str = "",
        judged_s: float = 0.0,
        usage: Mapping[str, int] | None = None,
    ) -> None:
        self.now += judged_s
        spent = replace(self.usage, **(usage or {}))
        end = RolloutEnded(self.run_id, self.now, self.id, status, score, failure, truncated_by, response, spent)
        self.events.append(end)

    def _spans(self, output: Ids, index: int, versions: Sequence[int]) -> tuple[Span, ...]:
        cuts = np.linspace(0, len(output), len(versions) + 1).astype(int).tolist()
        return tuple(
            Span(a, b, Role.ASSISTANT, True, self.trainable, self.policy_id, PolicyVersion(version), 1.0, index)
            for a, b, version in zip(cuts, cuts[1:], versions, strict=False)
            if b > a
        )

    def _record(self, turn: Turn) -> None:
        self.events.append(TurnRecorded(self.run_id, self.now, self.id, turn))
        self.usage = replace(
            self.usage,
            turns=self.usage.turns + 1,
            prompt_tokens=self.usage.prompt_tokens + len(turn.delta_ids),
            sampled_tokens=self.usage.sampled_tokens + len(turn.output_ids),
        )


def logprobs(random: np.random.Generator, count: int) -> Logprobs:
    """As a trained policy samples: mostly sure of itself, now and then surprised."""
    sure = -random.exponential(0.08, count)
    surprised = random.random(count) < 0.09
    return np.where(surprised, -random.exponential(2.2, count) - 0.4, sure).astype(np.float32)


def _body(value: object) -> RawBody:
    data = json.dumps(value).encode()
    return RawBody.of(data, len(data))


def _sampled_text(response: Message) -> str:
    calls = "".join(f"<call>{call.name}({dict(call.arguments)})</call>" for call in response.tool_calls)
    reasoning = f"<think>{response.reasoning}</think>" if response.reasoning else ""
    return f"{reasoning}{response.content}{calls}</assistant>"
