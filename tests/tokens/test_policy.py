"""TokenPolicy: what it asks of the engine, what it accepts, and what it records."""

import anyio
import numpy as np
import pytest

from envhub.contracts.engine import EngineChunk
from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion, derive_seed
from envhub.contracts.messages import Message, Role, ToolCall
from envhub.contracts.policy import PolicyInput
from envhub.contracts.turn import Finish, Sampling, Span, Timings
from envhub.errors import Boundary, EngineFault, Fault, Truncated
from envhub.tokens.gate import OpenGate

pytestmark = pytest.mark.anyio

ASK = Message.user("1+1?")
PROMPT_TOKENS = 23  # of ASK


async def test_a_call_is_recorded_as_it_was(make_rollout, says):
    rollout = make_rollout(says('Sure.<tool_call>{"name": "calc"}</tool_call>'))
    action = await rollout.act(ASK)
    (turn,) = rollout.turns
    call = ToolCall("c00000000", "calc")
    assert action.message == turn.response == Message.assistant("Sure.", (call,))
    assert (action.finish, action.turn) == (turn.finish, turn.index) == (Finish.STOP, 0)
    assert (action.prompt_tokens, action.output_tokens) == (len(turn.delta_ids), len(turn.output_ids))
    assert turn.output_ids.tolist() == [*b'Sure.<tool_call>{"name": "calc"}</tool_call>', 257]
    assert (turn.output_ids.dtype, turn.logprobs.dtype) == (np.int32, np.float32)
    assert (turn.logprobs == -0.5).all()
    assert (turn.policy_id, turn.logprob_kind, turn.asked) == (TRAINED, "exact", {})


async def test_the_engine_is_asked_for_exactly_what_is_recorded(make_rollout, says):
    rollout = make_rollout(says("2"))
    await rollout.policy.act(PolicyInput((ASK,), sampling=Sampling(0.3, 50), asked={"top_p": 0.5}))
    (request,), (turn,) = rollout.engine.requests, rollout.turns
    assert request.request_id == "run-0-0-0/0/0"
    assert request.stop_ids == {257}
    assert request.sampling == turn.sampling == Sampling(0.3, 50, derive_seed(7, "turn", 0))
    assert turn.spans[0].temperature == 0.3
    assert turn.asked == {"top_p": 0.5}


async def test_every_call_has_a_seed_of_its_own_unless_one_is_given(make_rollout, says):
    derived, given = make_rollout(says("2"), says("4")), make_rollout(says("2"), says("4"), seed=3)
    for rollout in (derived, given):
        await rollout.act(ASK)
        await rollout.act(ASK)
    assert len({turn.sampling.seed for turn in derived.turns}) == 2
    assert [turn.sampling.seed for turn in given.turns] == [3, 3]


async def test_every_policy_version_has_a_span(make_rollout, chunk):
    pieces = [([97], 1), ([98, 99], 1), ([], 9), ([100], 2), ([257], 2)]
    rollout = make_rollout(lambda _: [*(chunk(ids, version=v, finish=None) for ids, v in pieces), chunk([])])
    await rollout.act(ASK)
    one, two = rollout.turns[0].spans
    assert one == Span(0, 3, Role.ASSISTANT, True, True, TRAINED, PolicyVersion(1), 1.0, 0)
    assert (two.start, two.end, two.policy_version) == (3, 5, 2)


async def test_what_is_not_trainable_says_so(make_rollout, says):
    rollout = make_rollout(says("2"), trainable=False, exact=False)
    await rollout.act(ASK)
    (turn,) = rollout.turns
    assert not any(span.trainable for span in turn.spans)
    assert turn.logprob_kind == "inexact"


async def test_timings_are_when_it_began_first_spoke_and_ended(make_rollout, chunk):
    rollout = make_rollout(lambda _: [chunk([], finish=None), chunk([97], finish=None), chunk([257])])
    await rollout.act(ASK)
    assert rollout.turns[0].timings == Timings(0.0, 2.0, 4.0)


async def test_a_conversation_that_fills_the_context_is_truncated(make_rollout, says):
    rollout = make_rollout(says("2"), context_tokens=PROMPT_TOKENS)
    with pytest.raises(Truncated) as truncated:
        await rollout.act(ASK)
    assert truncated.value.reason == "context"
    assert not rollout.engine.requests


async def test_an_answer_is_cut_at_the_context(make_rollout, chunk):
    rollout = make_rollout(lambda _: [chunk([97, 98], finish=Finish.LENGTH)], context_tokens=PROMPT_TOKENS + 2)
    action = await rollout.act(ASK)
    assert rollout.engine.requests[0].sampling.max_tokens == 2
    assert action.finish is Finish.CONTEXT
    assert rollout.turns[0].finish is Finish.CONTEXT


async def test_an_answer_that_just_fits_the_context_stopped_by_itself(make_rollout, says):
    assert (await make_rollout(says("2"), context_tokens=PROMPT_TOKENS + 2).act(ASK)).finish is Finish.STOP


async def test_an_answer_is_cut_at_its_length(make_rollout, says):
    action = await make_rollout(says("two", cut=True), max_tokens=3).act(ASK)
    assert (action.finish, action.message.content) == (Finish.LENGTH, "two")


def unfit(ids=(97, 257), logprobs=(-0.5, -0.5), *, dtype=np.int32, version=0, finish=Finish.STOP) -> EngineChunk:
    return EngineChunk(np.array(ids, dtype), np.array(logprobs, np.float32), PolicyVersion(version), finish)


UNFIT = {
    "1 logprobs for 2 tokens": [unfit(logprobs=[-0.5])],
    "the logprob nan": [unfit(logprobs=[-0.5, np.nan])],
    "the logprob -inf": [unfit(logprobs=[-0.5, -np.inf])],
    "the logprob 0.25": [unfit(logprobs=[-0.5, 0.25])],
    "int32 vector": [unfit(dtype=np.int64)],
    "int32 vector and": [unfit([[97]], [[-0.5]])],
    "the token id -1": [unfit([-1, 257])],
    "its policy version is -1": [unfit(version=-1)],
    "without a finish reason": [unfit(finish=None)],
    "after 0 tokens without": [],
    "went on after its finish reason, stop": [unfit(), unfit()],
    "5 tokens where 4 were asked for": [unfit([97] * 5, [-0.5] * 5)],
}


@pytest.mark.parametrize("reason", UNFIT)
async def test_an_answer_that_breaks_the_contract_is_never_recorded(make_rollout, reason):
    rollout = make_rollout(*[lambda _: UNFIT[reason]] * 3, max_tokens=4)
    with pytest.raises(EngineFault, match=reason) as fault:
        await rollout.act(ASK)
    assert fault.value.retryable
    assert rollout.turns == []
    assert len(rollout.engine.requests) == 3
    assert rollout.engine.running == 0


@pytest.mark.parametrize("reason", UNFIT)
async def test_one_bad_answer_loses_nothing(make_rollout, says, reason):
    rollout = make_rollout(lambda _: UNFIT[reason], says("2"), max_tokens=4)
    action = await rollout.act(ASK)
    first, second = rollout.engine.requests
    (turn,) = rollout.turns
    assert (action.message.content, turn.index) == ("2", 0)
    assert first.sampling.seed != second.sampling.seed == turn.sampling.seed
    assert (first.request_id, second.request_id) == ("run-0-0-0/0/0", "run-0-0-0/0/1")


async def test_a_logprob_that_rounded_above_zero_is_zero(make_rollout, chunk):
    rollout = make_rollout(lambda _: [chunk([97, 257], [1e-7, -0.5])])
    await rollout.act(ASK)
    assert rollout.turns[0].logprobs.tolist() == [0.0, -0.5]


def breaks(error: Exception):
    def chunks(_):
        yield unfit(finish=None)
        raise error

    return chunks


async def test_a_retryable_fault_of_the_engine_is_retried(make_rollout, says):
    rollout = make_rollout(breaks(EngineFault("lost")), breaks(EngineFault("lost")), says("2"))
    assert (await rollout.act(ASK)).message.content == "2"


async def test_a_final_fault_of_the_engine_is_not_retried(make_rollout, says):
    rollout = make_rollout(breaks(EngineFault("gone", retryable=False)), says("2"))
    with pytest.raises(EngineFault, match="gone"):
        await rollout.act(ASK)
    assert len(rollout.engine.requests) == 1


async def test_whatever_an_engine_raises_is_its_fault(make_rollout):
    with pytest.raises(Fault, match="ZeroDivisionError") as fault:
        await make_rollout(breaks(ZeroDivisionError("x"))).act(ASK)
    assert fault.value.boundary is Boundary.ENGINE


async def test_an_id_outside_the_vocabulary_is_the_engines_fault(make_rollout, chunk):
    rollout = make_rollout(lambda _: [chunk([5000, 257])])
    with pytest.raises(Fault) as fault:
        await rollout.act(ASK)
    assert fault.value.boundary is Boundary.ENGINE
    assert rollout.turns == []


async def test_a_cancelled_call_leaves_nothing_but_a_gap(make_rollout, says, chunk):
    def endless(_):
        while True:
            yield chunk([], finish=None)

    rollout = make_rollout(endless, says("2"))
    with anyio.move_on_after(0.02) as scope:
        await rollout.act(ASK)
    assert scope.cancelled_caught
    assert (rollout.turns, rollout.engine.running) == ([], 0)
    assert (await rollout.act(ASK)).turn == 1


class CuttingGate(OpenGate):
    """A gate whose newest generation may be cut."""

    def call(self, policy_id: PolicyId) -> anyio.CancelScope:
        self.generation = anyio.CancelScope()
        return self.generation


@pytest.mark.parametrize("said", ["", "1"])
async def test_an_answer_goes_on_whose_engine_was_stopped_just_before_it_was_cut(make_rollout, says, chunk, said):
    gate = CuttingGate()

    def stopped(_):
        yield chunk([ord(letter) for letter in said], finish=None)
        yield chunk([], finish=Finish.ABORT)
        gate.generation.cancel()

    rollout = make_rollout(stopped, says("2"), gate=gate)
    action = await rollout.act(ASK)
    assert (action.message.content, action.finish) == (said + "2", Finish.STOP)
    assert len(rollout.turns) == 1


async def test_calls_may_run_side_by_side(make_rollout, says):
    rollout = make_rollout(*map(says, ["1", "2", "3"]))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(rollout.act, ASK)
    assert sorted(turn.index for turn in rollout.turns) == [0, 1, 2]
    assert [turn.fork for turn in rollout.turns] == ["", "retry", "retry"]
