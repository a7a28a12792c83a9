"""Instructions: what follows them and what does not, strictly and loosely, and how they are written into a task."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.ids import TaskId
from envhub.contracts.messages import Message
from envhub.contracts.task import Task
from envhub.errors import UnknownName, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import component, gate
from judges.instructions import (
    KINDS,
    Acrostic,
    Alliteration,
    Asides,
    Bullets,
    CapitalWords,
    CodeBlock,
    DividedParagraphs,
    Emojis,
    EndsWith,
    Followed,
    Forbidden,
    GrowingSentences,
    Headings,
    Highlights,
    Instruction,
    JsonOnly,
    KeywordCount,
    KeywordInSentence,
    Keywords,
    LetterCount,
    Lines,
    Lowercase,
    NoAlliteration,
    NoCommas,
    NoDigits,
    NoRepeatedWords,
    NumberedList,
    Numbers,
    OneOf,
    Palindromes,
    Paragraphs,
    ParagraphStart,
    Placeholders,
    Postscript,
    Questions,
    Quoted,
    RepeatRequest,
    Script,
    Sections,
    SentenceEnd,
    Sentences,
    StartsWith,
    Table,
    Title,
    TitleCase,
    TwoResponses,
    UniqueWords,
    Uppercase,
    Without,
    WithoutLetter,
    Words,
    WordsPerLine,
    WordsPerSentence,
    followed,
    follows,
    follows_loosely,
    read,
    written,
)
from judges.instructions.measures import numbers, sentences, words
from tests.judges.linear import linear

# An instruction, texts that follow it, texts that don't.
CASES: list[tuple[Instruction, list[str], list[str]]] = [
    (Words(3, 4), ["one two three", "it's well-known, isn't it"], ["one two", "a b c d e", ""]),
    (Words(at_most=2), ["hi", "a-b c"], ["a b c"]),
    (UniqueWords(3), ["a b c", "A a b c"], ["a A b B", "a a a"]),
    (Sentences(2, 2), ["One. Two!", "Dr. Who came. He left.", "Pi is 3.14. So?"], ["One.", "One. Two. Three."]),
    (Sentences(3), ["你好。再见！好吗？", "a b\n\nc d\n\ne."], ["e.g. this one"]),
    (WordsPerSentence(1, 3), ["One two three. Four!"], ["One two three four. Five."]),
    (GrowingSentences(), ["Go. Go home. Go home now."], ["Go home. Go.", "Go. Run.", "Alone."]),
    (Paragraphs(2, 2), ["a\n\nb", "a\nb\n \n\nc\n"], ["a\nb", "a\n\nb\n\nc"]),
    (DividedParagraphs(2, 2), ["a\n***\nb", "***\na\n***\nb\n***"], ["a\n\nb", "a\n***\n\n***\nb", "a *** b *** c"]),
    (ParagraphStart(2, 2, "moon"), ["a\n\nMoon, b", "a\n\n**Moon** b"], ["moon\n\nb", "moon b", "a\n\nmoon\n\nc"]),
    (Lines(2, 2), ["a\nb", "a\n\n b \n"], ["a", "a\nb\nc"]),
    (WordsPerLine(at_most=2), ["a b\nc"], ["a b c"]),
    (Keywords(("cat", "two words")), ["Two words: CAT."], ["cats and two words", "cat, two other words"]),
    (Forbidden(("cat", "dog")), ["cats and dogs"], ["A Cat", "dog."]),
    (KeywordCount(2, 2, "cat"), ["cat Cat", "cat, cat, cats"], ["cat", "cat cat cat"]),
    (KeywordInSentence("cat", 2), ["A dog. A cat."], ["A cat. A dog.", "A cat."]),
    (Numbers(2, 2), ["1 and 2.5", "-3 to 1,000,000"], ["1", "1 2 3", "v2 x1 1a"]),
    (NoDigits(), ["none"], ["1", "٣"]),
    (Questions(1, 1), ['Why? "So."', "是吗？"], ["Why", "Why? How?"]),
    (Emojis(2), ["🌊 and 🚀", "☀☀"], ["🌊", ":-) :-)"]),
    (NoRepeatedWords(), ["so it is so"], ["it it is", "It it"]),
    (OneOf(("Yes.", "No.")), ["yes", " No. "], ["Yes and no", "maybe"]),
    (RepeatRequest("Say  hi."), ["Say hi. Hi!", "say\nhi."], ["Hi!", "I say hi."]),
    (Uppercase(), ["A B 1!", "Ω"], ["A b", "12"]),
    (Lowercase(), ["a b 1!"], ["a B", "12"]),
    (TitleCase(), ["The Old Man and the Sea", "Café 1st"], ["The old Man", "a the of"]),
    (CapitalWords(2, 2), ["NASA and ESA"], ["NASA", "I A", "A BB CC DD"]),
    (LetterCount(2, 2, "e"), ["Ee", "tree"], ["e", "eee"]),
    (WithoutLetter("e"), ["a bit of fog", "12"], ["the", "E"]),
    (Script("Greek"), ["Καλημέρα 12!"], ["Καλημέρα world", "12"]),
    (Script("Japanese"), ["今日はカレー"], ["오늘", "kare"]),
    (Palindromes(1), ["a Level field"], ["a I aaa", "level1"]),
    (Alliteration(3), ["the big bad Bear"], ["big bad wolf", "1a 1b 1c"]),
    (NoAlliteration(), ["one two four"], ["big Bear"]),
    (Acrostic("moon"), ["My\nold\n  own\nnote", "Men came. Others left. One sang. Nobody did."], ["a\nb", "moon"]),
    (JsonOnly(), ['{"a": 1}', "```json\n[1]\n```", " [] "], ['{"a": 1} so', "7", "{", "{'a': 1}"]),
    (CodeBlock(), ["```py\nx\n```"], ["x", "```\nx\n``` y", "```\na\n```\n```\nb\n```", "```\n\n```"]),
    (Bullets(2, 2), ["* a\n- b", "x\n  + a\n* b"], ["* a", "*a\n*b", "* a\n* b\n* c"]),
    (NumberedList(2, 2), ["1. a\n2. b", "x\n1) a\n2) b"], ["1. a", "2. a\n3. b", "1. a\n1. b"]),
    (Sections(2, 2), ["Section 1\na\nSECTION 2\nb", "# Section 1: x\n## Section 2: y"], ["Section 1", "Section 2"]),
    (Headings(1, 1), ["# A\nb"], ["#A", "a # b", "# A\n## B"]),
    (Title(), ["<<A poem>>\nx"], ["<A poem>", "<<>>", "<<\n>>"]),
    (Highlights(2), ["*a* and **b c**"], ["*a*", "* a\n* b", "2*3*"]),
    (Placeholders(2, 2), ["[a] [b c]"], ["[]", "[a]", "[a] [b] [c]"]),
    (Asides(1, 1), ["a (b) c"], ["()", "(a) (b)"]),
    (Table(2), ["| a | b |\n|---|:-:|\n| 1 | 2 |", "x\n\na | b\n--- | ---\n1 | 2"], ["a | b", "|a|b|c|\n|-|-|-|\n|1|2|3|"]),  # noqa: E501
    (TwoResponses(), ["a\n******\nb"], ["a\n***\nb", "a\n******\na", "a ****** b ****** c", "******b"]),
    (StartsWith("Dear Sir"), ["dear  sir, hello"], ["Hello, dear Sir"]),
    (EndsWith("That is all."), ["x. that is all.", '"x. That is all."'], ["That is all. x", "That is all"]),
    (Quoted(), ['"a"', "“a b”"], ["a", '"a" b', '"']),
    (Postscript(), ["a\n\nP.S. b", "a\np.s. b"], ["a P.S. b", "P.S. a", "a\nP.S."]),
    (NoCommas(), ["a; b"], ["a, b", "你，我"]),
    (Without("!;"), ["a."], ["a!", "a; b"]),
    (SentenceEnd("!"), ["Go! Run!", 'He said "go!"'], ["Go! Run.", "Go", "?"]),
]  # fmt: skip
IDS = [f"{instruction.kind}-{index}" for index, (instruction, _, _) in enumerate(CASES)]


@pytest.mark.parametrize(("instruction", "good", "bad"), CASES, ids=IDS)
def test_what_follows_is_told_from_what_does_not(instruction: Instruction, good: list[str], bad: list[str]):
    assert [text for text in good if not follows(instruction, text)] == []
    assert [text for text in bad if follows(instruction, text)] == []


def test_every_kind_has_examples():
    assert {instruction.kind for instruction, _, _ in CASES} == set(KINDS)
    assert len(KINDS) >= 50


@pytest.mark.parametrize(("instruction", "good", "bad"), CASES, ids=IDS)
def test_an_instruction_is_read_as_it_was_written(instruction: Instruction, good: list[str], bad: list[str]):
    assert read(written(instruction)) == instruction
    assert pickle.loads(pickle.dumps(instruction)) == instruction


@given(st.text(max_size=300), st.sampled_from([case[0] for case in CASES]))
def test_any_text_is_judged_and_what_is_followed_strictly_is_followed_loosely(text: str, instruction: Instruction):
    if follows(instruction, text):
        assert follows_loosely(instruction, text)


@given(st.text(max_size=300))
def test_measures_agree_with_each_other(text: str):
    assert len(words(text)) >= len(sentences(text))
    assert all(word in text for word in words(text))
    assert len(numbers(text)) <= len(text)


@given(st.integers(0, 30), st.integers(1, 30))
def test_bounds_are_inclusive(count: int, bound: int):
    text = "word " * count
    assert follows(Words(bound), text) == (count >= bound)
    assert follows(Words(at_most=bound), text) == (0 < count <= bound)


@pytest.mark.parametrize(
    ("response", "instruction"),
    [
        ("Sure, here it is:\n* a\n* b", StartsWith("* a")),
        ("the answer\nI hope this helps, friend.", NoCommas()),
        ("Sure!\nall small\nBye!", Lowercase()),
        ("**MOON** rises", StartsWith("MOON rises")),
    ],
)
def test_loosely_first_and_last_lines_and_asterisks_are_forgiven(response: str, instruction: Instruction):
    assert not follows(instruction, response)
    assert follows_loosely(instruction, response)


def test_loose_does_not_forgive_what_stands_in_the_middle():
    assert not follows_loosely(NoCommas(), "a\nb, c\nd")


ENORMOUS = {
    "full stops": "." * 199_000 + "a",
    "points and digits": "1." * 99_000 + "1x",
    "commas and digits": "1," * 99_000 + "1x",
    "opened": "<<a" * 60_000,
    "asterisks": "*a" * 99_000,
    "brackets": "[(" * 99_000,
    "line breaks": "\n " * 99_000 + "a",
    "spaces": "* " + " " * 190_000 + "\n",
    "one word": "a" * 199_000,
    "bars": "|-" * 99_000,
    "fences": "```\n" * 49_000,
    "json": "[" * 199_000,
    "quotes": '."' * 99_000 + "a",
}


@pytest.mark.parametrize("response", ENORMOUS.values(), ids=ENORMOUS.keys())
def test_no_response_takes_long(response: str):
    for instruction, _, _ in CASES:
        with linear():
            follows(instruction, response)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("NoCommas", "an object with its kind"),
        ({"at_least": 3}, "an object with its kind"),
        ({"kind": "Wrods", "at_least": 3}, "did you mean Words"),
        ({"kind": "Words"}, "give at_least, at_most or both"),
        ({"kind": "Words", "at_least": 5, "at_most": 2}, "at_most no less than at_least"),
        ({"kind": "Words", "at_least": "5"}, "'at_least' is '5'"),
        ({"kind": "Words", "at_least": True}, "'at_least' is True"),
        ({"kind": "Words", "least": 5}, "no field 'least'; Words has at_least: int"),
        ({"kind": "Keywords"}, "'keywords' is missing"),
        ({"kind": "Keywords", "keywords": [1]}, "'keywords' is"),
        ({"kind": "Keywords", "keywords": []}, "at least one word"),
        ({"kind": "Script", "script": "Klingon"}, "the scripts are Arabic"),
        ({"kind": "LetterCount", "at_least": 1, "letter": "ab"}, "one letter"),
        ({"kind": "ParagraphStart", "paragraphs": 2, "number": 3, "word": "a"}, "that of a paragraph"),
    ],
)
def test_what_can_not_be_asked_is_refused_with_the_rule(data: object, said: str):
    with pytest.raises(UsageError, match=said.replace("|", r"\|")):
        read(data)


def test_an_unknown_kind_is_an_unknown_name():
    with pytest.raises(UnknownName):
        read({"kind": "Rhyme"})


def task(*asked: Instruction) -> Task:
    return Task(TaskId("t"), (Message.user("?"),), None, {"instructions": [written(each) for each in asked]})


class TestFollowed(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return followed

    @pytest.fixture
    def gold(self):
        return answered(task(NoCommas(), Words(2, 5), StartsWith("Well")), "Well then")

    @pytest.fixture
    def wrong(self, gold):
        return answered(gold.task, "Well, then")


def test_the_score_is_the_share_and_names_what_was_missed():
    asked = task(Lowercase(), Keywords(("a",)), Keywords(("b",)), NoCommas())
    score = followed(answered(asked, "a, c"))
    assert score.scalar == 0.5
    assert score.components == {
        "strict": 0.5, "loose": 0.5, "Lowercase": 1, "Keywords_1": 1, "Keywords_2": 0, "NoCommas": 0,
    }  # fmt: skip
    assert "Keywords(keywords=('b',))" in score.explanation and "NoCommas()" in score.explanation


def test_the_loose_judge_gives_the_loose_share():
    asked = answered(task(Lowercase()), "Sure!\nas you wish")
    assert followed(asked).scalar == 0
    assert followed(asked).components["loose"] == 1
    assert Followed(loose=True)(asked).scalar == 1


def test_it_composes_with_other_components():
    reward = gate(component("asked", followed)) * component("long", lambda input: float(len(input.response) > 3))
    assert reward(answered(task(Lowercase()), "abcd")).scalar == 1
    assert reward(answered(task(Lowercase()), "Abcd")).scalar == 0


def test_a_task_without_instructions_is_an_error_that_names_it():
    with pytest.raises(UsageError, match="task '3 \\+ 4\\?': metadata\\['instructions'\\] is None"):
        followed(answered(Task.ask("3 + 4?", 7), "7"))


def test_a_response_that_is_too_long_follows_nothing():
    score = followed(answered(task(NoCommas()), "a " * 200_000))
    assert score.scalar == 0
    assert "400000 characters" in score.explanation
