"""The ledger: what is recorded is continued id for id, what is not becomes a branch."""

from dataclasses import replace

import numpy as np
import pytest

from envhub.contracts.ids import PolicyId
from envhub.contracts.messages import Message, Role
from envhub.contracts.policy import PolicyInput
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Fork
from envhub.errors import Fault
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer

pytestmark = pytest.mark.anyio

ASK, MORE, OTHER = Message.user("1+1?"), Message.user("And 2+2?"), Message.user("And 3+3?")
CALC = ToolSpec("calc", "Adds.", {"type": "object"})


def continues(turns, engine) -> None:
    """Every prompt is its parent's prompt and output, then its own delta."""
    prompts = [request.prompt_ids for request in engine.requests]
    for turn, prompt in zip(turns, prompts, strict=True):
        before = [] if turn.parent is None else [prompts[turn.parent], turns[turn.parent].output_ids]
        assert prompt.dtype == np.int32
        assert prompt.tolist() == np.concatenate((*before, turn.delta_ids)).tolist()


async def test_the_next_turn_continues_the_newest(make_rollout, says):
    rollout = make_rollout(says("2"), says("4"))
    first = await rollout.act(ASK)
    await rollout.act(ASK, first.message, MORE)
    one, two = rollout.turns
    assert (one.parent, two.parent, two.fork) == (None, 0, Fork.NONE)
    assert (one.messages, two.messages) == ((ASK,), (MORE,))
    continues(rollout.turns, rollout.engine)


async def test_sampled_text_is_not_tokenized_again(make_rollout, chunk):
    """No encoder would give these ids: bytes that are no UTF-8, and a control token in the middle."""
    odd = [0xFF, 256, 0xC3, 257]
    rollout = make_rollout(lambda _: [chunk(odd)], lambda _: [chunk([257])])
    first = await rollout.act(ASK)
    await rollout.act(ASK, first.message, MORE)
    prompt = rollout.engine.requests[1].prompt_ids.tolist()
    assert prompt[len(rollout.turns[0].delta_ids) :][:4] == odd
    continues(rollout.turns, rollout.engine)


async def test_a_cut_message_is_ended_before_the_next(make_rollout, says):
    rollout = make_rollout(says("2", cut=True), says("4"))
    first = await rollout.act(ASK)
    await rollout.act(ASK, first.message, MORE)
    delta = ByteTokenizer().decode(rollout.turns[1].delta_ids.tolist())
    assert delta.startswith("<|im_end|>\n<|im_start|>user\n")


async def test_what_a_client_changed_on_the_way_is_still_the_recorded_message(make_rollout, says):
    call = '<think>hm</think>Wait.<tool_call>{"name": "calc", "arguments": {"b": 2.0, "a": 1}}</tool_call>'
    rollout = make_rollout(says(call), says("4"))
    first = (await rollout.act(ASK)).message
    (tool_call,) = first.tool_calls
    returned = Message.assistant("Wait.\n", (replace(tool_call, id="x", arguments={"a": 1, "b": 2}),))
    await rollout.act(Message.user("1+1? "), returned, Message.tool("3", ""))
    assert rollout.turns[1].parent == 0


async def test_an_older_turn_may_be_continued_again_and_again(make_rollout, says):
    rollout = make_rollout(*map(says, ["2", "4", "6", "8", "10"]))
    first = (await rollout.act(ASK)).message
    second = (await rollout.act(ASK, first, MORE)).message
    await rollout.act(ASK, first, OTHER)
    await rollout.act(ASK, first, MORE, second, OTHER)
    await rollout.act(ASK, first, MORE, second, MORE)
    assert [turn.parent for turn in rollout.turns] == [None, 0, 0, 1, 1]
    assert [turn.fork for turn in rollout.turns] == ["", "", Fork.BRANCH, "", Fork.BRANCH]
    continues(rollout.turns, rollout.engine)


async def test_a_rewritten_reply_is_an_edited_row_of_its_own(make_rollout, says):
    rollout = make_rollout(says("2"), says("4"))
    await rollout.act(ASK)
    await rollout.act(ASK, Message.assistant("Three."), MORE)
    assert (rollout.turns[1].parent, rollout.turns[1].fork) == (None, Fork.EDITED)
    assert rollout.turns[1].messages == (ASK, Message.assistant("Three."), MORE)


async def test_a_later_edit_keeps_what_lies_before_it(make_rollout, says):
    rollout = make_rollout(says("2"), says("4"), says("6"))
    first = (await rollout.act(ASK)).message
    await rollout.act(ASK, first, MORE)
    await rollout.act(ASK, first, MORE, Message.assistant("Five."), OTHER)
    assert (rollout.turns[2].parent, rollout.turns[2].fork) == (0, Fork.EDITED)
    continues(rollout.turns, rollout.engine)


async def test_each_policy_has_rows_of_its_own(make_rollout, says):
    one = make_rollout(says("2"))
    other = make_rollout(says("4"), ledger=one.ledger, policy_id=PolicyId("judge"))
    first = (await one.act(ASK)).message
    await other.act(ASK, first, MORE)
    (turn,) = other.turns
    assert (turn.index, turn.parent, turn.fork, turn.policy_id) == (1, None, "", "judge")


async def test_equal_answers_are_continued_from_the_newest(make_rollout, says, chunk):
    rollout = make_rollout(says("2"), lambda _: [chunk([ord("2"), 257], version=3)], says("4"))
    await rollout.act(ASK)
    second = (await rollout.act(ASK)).message
    await rollout.act(ASK, second, MORE)
    assert (rollout.turns[2].parent, rollout.turns[2].fork) == (1, "")


async def test_a_history_that_ends_with_the_models_own_message_is_written_on(make_rollout, says):
    rollout = make_rollout(says("2"), says("or two"))
    first = (await rollout.act(ASK)).message
    await rollout.act(ASK, first)
    assert (rollout.turns[1].parent, rollout.turns[1].messages) == (0, ())
    continues(rollout.turns, rollout.engine)


async def test_a_call_that_failed_leaves_a_gap(make_rollout, says):
    template = "{% if messages[-1].content == '!' %}{{ raise_exception('too loud') }}{% endif %}" + CHATML_TEMPLATE
    rollout = make_rollout(says("2"), says("4"), template=template)
    await rollout.act(ASK)
    with pytest.raises(Fault, match="too loud"):
        await rollout.act(Message.user("!"))
    await rollout.act(OTHER)
    assert [turn.index for turn in rollout.turns] == [0, 2]


async def test_only_the_tip_of_a_branch_keeps_its_ids_in_one_piece(make_rollout, says):
    """Memory stays linear in the length of a conversation, and branches still find their ids."""
    rollout = make_rollout(*[says("yes")] * 21)
    messages = [ASK]
    for _ in range(20):
        messages += [(await rollout.act(*messages)).message, MORE]
    kept = [recorded.prompt_ids is not None for recorded, _ in rollout.ledger._turns.values()]
    assert sum(kept) == 1
    await rollout.act(*messages[:10], Message(Role.USER, "A branch."))
    assert rollout.turns[-1].parent == 4
    continues(rollout.turns, rollout.engine)


async def test_a_list_of_tools_that_grew_in_place_is_told_to_the_model(make_rollout, says):
    rollout = make_rollout(says("2"), says("4"))
    tools = [CALC]
    for _ in range(2):
        await rollout.policy.act(PolicyInput((ASK,), tools))
        tools.append(replace(CALC, name="divide"))
    assert "divide" in ByteTokenizer().decode(rollout.engine.requests[1].prompt_ids.tolist())
    assert rollout.turns[1].fork == Fork.TOOLS_CHANGED
