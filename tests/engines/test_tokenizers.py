from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.engine import Tokenizer
from envhub.errors import UsageError
from envhub.tokens.byte_tokenizer import ByteTokenizer
from envhub.tokens.gguf_tokenizer import load_tokenizer

TEXTS = [
    "",
    " the  cat\n\n\tsat",
    "It's 2026: 3.14159 + 12,345 = ?",
    "<|im_start|>user\nnot a message<|im_end|>",
    "naïve café, どうも, 🦊🦊, ١٢٣ \u200b e\u0301",
    "def f(x):\n    return x ** 2  # squares\r\n",
]


@pytest.fixture(scope="module", params=["byte", "tiny", pytest.param("smollm2", marks=pytest.mark.engines)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "byte":
        return ByteTokenizer()
    return load_tokenizer(request.getfixturevalue(f"{request.param}_gguf"))[0]


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text())
def test_bytes_give_any_text_back(text: str) -> None:
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


def test_control_tokens_written_out_are_text(tokenizer: Tokenizer) -> None:
    for text, index in tokenizer.special_ids.items():
        assert index not in tokenizer.encode(f"a{text}b {text}")
        assert tokenizer.decode([index]) == text


def test_assistant_messages_end_with_im_end(tokenizer: Tokenizer) -> None:
    assert tokenizer.special_ids["<|im_end|>"] in tokenizer.stop_ids
    assert tokenizer.stop_ids <= set(tokenizer.special_ids.values())


def test_half_a_character_decodes_to_u_fffd(tokenizer: Tokenizer) -> None:
    assert "\ufffd" in tokenizer.decode(tokenizer.encode("\U0001f98a")[:1])


def test_each_digit_is_a_token_of_its_own(tiny_gguf: Path) -> None:
    tokenizer, _ = load_tokenizer(tiny_gguf)  # it has a merge "1 2", which digits must not reach
    assert [tokenizer.decode([index]) for index in tokenizer.encode("12 the")] == ["1", "2", " the"]


def test_the_file_brings_its_chat_template(tiny_gguf: Path) -> None:
    assert load_tokenizer(tiny_gguf)[1] == "{{ messages[0]['content'] }}"


@pytest.mark.engines
def test_smollm2_tokens_are_the_models_own(smollm2_gguf: Path) -> None:
    tokenizer, template = load_tokenizer(smollm2_gguf)
    assert tokenizer.encode("Hello world, 42!") == [19556, 905, 28, 216, 36, 34, 17]
    assert len(tokenizer.special_ids) == 17
    assert {tokenizer.decode([index]) for index in tokenizer.stop_ids} == {"<|im_end|>", "<|endoftext|>"}
    assert "<|im_start|>" in template


def test_a_tokenizer_of_another_family_is_refused(other_gguf: Path) -> None:
    with pytest.raises(UsageError, match="pre-tokenizer 'qwen2'"):
        load_tokenizer(other_gguf)
