"""Parsing what a model wrote, writing it back, and recognising it again."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from envhub.contracts.messages import Message, Role, ToolCall
from envhub.contracts.toolset import ToolSpec
from envhub.tokens.tool_calls import canonical, introduce, parse, write

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TAGS = ["<tool_call>", "</tool_call>", "<think>", "</think>", '{"name": "f"}', '{"name": "f", "arguments": {}}', "\n"]
MODEL_TEXT = st.lists(st.one_of(TEXT, st.sampled_from(TAGS)), max_size=8).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=3)


def call_text(name: object, arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def only_error(text: str) -> str:
    (call,) = parse(text, "c").tool_calls
    assert not call.arguments
    return call.error


def test_text_without_calls_is_content_as_it_is():
    assert parse("  two\n", "c") == Message.assistant("  two\n")


def test_calls_are_taken_out_of_the_content_in_order():
    message = parse(f"First.\n{call_text('add', {'a': 1})}\n{call_text('sub', {'b': 2})}\nDone.", "c000003")
    assert message.tool_calls == (ToolCall("c00000300", "add", {"a": 1}), ToolCall("c00000301", "sub", {"b": 2}))
    assert message.content.split() == ["First.", "Done."]


def test_tags_inside_the_json_of_a_call_are_part_of_it():
    arguments = {"text": "</tool_call><tool_call></think>"}
    assert parse(call_text("write", arguments), "c").tool_calls[0].arguments == arguments


def test_arguments_may_be_left_out():
    assert parse('<tool_call>{"name": "now"}</tool_call>', "c").tool_calls[0] == ToolCall("c00", "now")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('<tool_call>{"name": "f", "arguments": {}}', "not followed by </tool_call>"),
        ('<tool_call>{"name": "f", "arg', "Unterminated string"),
        ('<tool_call>{"name": "f"} {"name": "g"}</tool_call>', "not followed by </tool_call>"),
        ("<tool_call>[1]</tool_call>", "not list"),
        ('<tool_call>{"arguments": {}}</tool_call>', "'name'"),
        ('<tool_call>{"name": ""}</tool_call>', "'name'"),
        ('<tool_call>{"name": "f", "arguments": "x"}</tool_call>', "not str"),
        ('<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>', "no finite number"),
        ('<tool_call>{"name": "f", "arguments": {"x": 1e999}}</tool_call>', "no finite number"),
        ('<tool_call>{"name": "f", "arguments": {"x": ["\\ud800"]}}</tool_call>', "lone surrogate"),
        ('<tool_call>{"name": "f", "arguments": {"\\udfff": 1}}</tool_call>', "lone surrogate"),
        (f'<tool_call>{{"name": "f", "arguments": {{"x": {"[" * 200}{"]" * 200}}}}}</tool_call>', "deeper than 64"),
        (f"<tool_call>{'[' * 100_000}", "too deep"),
        (f'<tool_call>{{"name": "f", "arguments": {{"x": {"9" * 5000}}}}}</tool_call>', "digits"),
        ("<tool_call>", "Expecting value"),
    ],
)
def test_what_is_no_call_says_why_and_stays_in_the_content(text: str, reason: str):
    assert reason in only_error(text)
    assert parse(f"So: {text}", "c").content == f"So: {text}"


def test_a_broken_call_keeps_its_name_and_does_not_swallow_the_next_one():
    message = parse('<tool_call>{"name": "f", "arguments": 1}' + call_text("g", {}), "c")
    broken, good = message.tool_calls
    assert (broken.name, good.name, good.error) == ("f", "g", "")


@pytest.mark.parametrize(
    ("text", "reasoning", "content"),
    [
        ("<think>\nhm\n</think>\n\n4", "hm", "4"),
        ("hm\n</think>\n\n4", "hm", "4"),
        ("<think>cut off", "cut off", ""),
        ("<think></think>4", "", "4"),
        ("<think>a</think><think>b</think>c", "a\nb", "c"),
    ],
)
def test_reasoning_is_split_off(text: str, reasoning: str, content: str):
    message = parse(text, "c")
    assert (message.reasoning, message.content) == (reasoning, content)


def test_a_call_inside_reasoning_is_none():
    assert not parse(f"<think>{call_text('f', {})}</think>4", "c").tool_calls


def test_the_introduction_holds_every_tool():
    text = introduce([ToolSpec("add", "Adds.", {"type": "object"}), ToolSpec("sub", "Subtracts.", {})])
    assert '"name": "add"' in text and '"name": "sub"' in text and "<tool_call>" in text


@given(MODEL_TEXT)
@example("<tool_call>" * 3 + "</tool_call>")
@example("<think></think>" * 3)
def test_parsing_never_raises_and_gives_text_that_utf8_can_hold(text: str):
    message = parse(text, "c")
    assert message.role is Role.ASSISTANT
    assert len({call.id for call in message.tool_calls}) == len(message.tool_calls)
    repr(message).encode()


@given(st.text())
def test_parsing_never_raises_whatever_the_characters(text: str):
    parse(text, "c")


@given(TEXT.filter(bool), ARGUMENTS)
def test_a_written_call_is_read_back(name: str, arguments: dict[str, object]):
    assert parse(write(ToolCall("c00", name, arguments)), "c").tool_calls == (ToolCall("c00", name, arguments),)


@given(MODEL_TEXT)
def test_text_and_what_it_was_parsed_to_are_the_same_message(text: str):
    assert canonical(Message.assistant(text)) == canonical(parse(text, "c"))


@given(ARGUMENTS)
def test_reordered_arguments_are_the_same_message(arguments: dict[str, object]):
    turned = dict(reversed(arguments.items()))
    first, second = (Message.assistant("", (ToolCall(id, "f", a),)) for id, a in (("a", arguments), ("b", turned)))
    assert canonical(first) == canonical(second)


@pytest.mark.parametrize(
    ("sent", "returned"),
    [
        (Message.assistant(" 4\n"), Message.assistant("4")),
        (Message(Role.ASSISTANT, "4", reasoning="hm"), Message.assistant("4")),
        (Message(Role.ASSISTANT, "4", reasoning="hm"), Message.assistant("<think>hm</think>4")),
        (Message.tool("4", "c00"), Message.tool("4", "")),
        (
            Message.assistant("", (ToolCall("a", "f", {"x": 1.0, "y": -0.0, "z": 2**53 + 1}),)),
            Message.assistant("", (ToolCall("b", "f", {"z": 2**53, "x": 1, "y": 0}),)),
        ),
        (Message.assistant("", (ToolCall("a", "f", {"x": 1}),)), Message.assistant(call_text("f", {"x": 1}))),
        (
            Message.assistant("<tool_call>{", (ToolCall("a", "f", {}), ToolCall("b", "", error="no JSON"))),
            Message.assistant("<tool_call>{", (ToolCall("a", "f", {}),)),
        ),
    ],
)
def test_what_clients_make_of_a_message_is_the_same_message(sent: Message, returned: Message):
    assert canonical(sent) == canonical(returned)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Message.user("4"), Message.assistant("4")),
        (Message.user("4"), Message.user("5")),
        (Message.assistant("", (ToolCall("a", "f", {}),)), Message.assistant("", (ToolCall("a", "g", {}),))),
        (
            Message.assistant("", (ToolCall("a", "f", {"x": True}),)),
            Message.assistant("", (ToolCall("a", "f", {"x": 1}),)),
        ),
    ],
)
def test_different_messages_have_different_keys(one: Message, other: Message):
    assert canonical(one) != canonical(other)
