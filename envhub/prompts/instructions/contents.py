"""Recipes on what is said: keywords, forbidden words, numbers, pictures."""

from itertools import repeat
from random import Random

from envhub.prompts.instructions.recipe import (
    ADD,
    DIGITS,
    FRAME,
    LENGTH,
    PLACE,
    SCRIPT,
    SENTENCES,
    SHAPE,
    START,
    TAKES,
    WORDS,
    AnyRecipe,
    Recipe,
)
from envhub.prompts.instructions.wording import KEYWORDS, grown, prepended, with_missing
from judges.instructions import (
    Emojis,
    Forbidden,
    KeywordCount,
    KeywordInSentence,
    Keywords,
    NoDigits,
    NoRepeatedWords,
    Numbers,
    OneOf,
    Questions,
)
from judges.instructions.measures import sentences


def _with_keywords(text: str, asked: Keywords, rng: Random) -> str:
    for word in asked.keywords:
        if not Keywords((word,))(text):
            text = prepended(text, f"I thought of the {word} as well.")
    return text


def _with_keyword_in_sentence(text: str, asked: KeywordInSentence, rng: Random) -> str:
    text = grown(text, lambda longer: len(sentences(longer)) >= asked.number, rng)
    parts = sentences(text)
    return " ".join([*parts[: asked.number - 1], f"Then came the {asked.keyword}.", *parts[asked.number - 1 :]])


def _without_words(text: str, asked: Forbidden, rng: Random) -> str:
    return " ".join(part for part in text.split(" ") if asked(part))


def _without_repeats(text: str, asked: NoRepeatedWords, rng: Random) -> str:
    parts = text.split(" ")
    return " ".join(part for at, part in enumerate(parts) if not at or asked(f"{parts[at - 1]} {part}"))


RECIPES: tuple[AnyRecipe, ...] = (
    Recipe(
        Keywords,
        lambda rng: Keywords(tuple(rng.sample(KEYWORDS, rng.randrange(1, 4)))),
        ("Use these words: {keywords}.", "Include the keywords {keywords} in your answer."),
        _with_keywords,
        ADD,
        frozenset((SCRIPT,)),
    ),
    Recipe(
        KeywordCount,
        lambda rng: KeywordCount(rng.randrange(2, 5), None, rng.choice(KEYWORDS)),
        ('The word "{keyword}" should appear {amount}.', 'Say "{keyword}" {amount}.'),
        lambda text, asked, rng: with_missing(text, asked, repeat(f"Again I saw the {asked.keyword}.")),
        ADD,
        frozenset((SCRIPT,)),
        "times",
    ),
    Recipe(
        KeywordInSentence,
        lambda rng: KeywordInSentence(rng.choice(KEYWORDS), rng.randrange(1, 4)),
        ('Sentence number {number} must have the word "{keyword}" in it.',),
        _with_keyword_in_sentence,
        PLACE,
        frozenset((SENTENCES, START, SCRIPT, SHAPE, LENGTH)),
    ),
    Recipe(
        Forbidden,
        lambda rng: Forbidden(tuple(rng.sample(("very", "really", "however", "basically", "actually", "perhaps"), 3))),
        ("Do not use the words {keywords}.", "Avoid these words: {keywords}."),
        _without_words,
        PLACE,
    ),
    Recipe(
        Numbers,
        lambda rng: Numbers(rng.randrange(2, 6)),
        ("Write {amount} in digits.", "Your answer should contain {amount}, written in digits."),
        lambda text, asked, rng: with_missing(
            text, asked, (f"I counted {rng.randrange(2, 100)} of them." for _ in repeat(None))
        ),
        ADD,
        frozenset((DIGITS, SCRIPT)),
        "numbers",
    ),
    Recipe(
        NoDigits,
        lambda rng: NoDigits(),
        ("Use no digits; write numbers as words.", "There must be no digit in your response."),
        lambda text, asked, rng: "".join(each for each in text if asked(each)) or "None.",
        PLACE,
        frozenset((DIGITS,)),
    ),
    Recipe(
        Questions,
        lambda rng: Questions(rng.randrange(1, 4)),
        ("Ask the reader {amount}.", "Include {amount}."),
        lambda text, asked, rng: with_missing(text, asked, repeat("Is that so?")),
        ADD,
        frozenset((SENTENCES, SCRIPT)),
        "questions",
    ),
    Recipe(
        Emojis,
        lambda rng: Emojis(rng.randrange(1, 5)),
        ("Use {amount}.", "Brighten your answer with {amount}."),
        lambda text, asked, rng: f"{rng.choice('🌊🌙🚀🎉') * (asked.at_least - asked.count(text))} {text}",
        ADD,
        frozenset((WORDS,)),
        "emojis",
    ),
    Recipe(
        NoRepeatedWords,
        lambda rng: NoRepeatedWords(),
        ("Never write the same word twice in a row.",),
        _without_repeats,
        PLACE,
        frozenset((WORDS,)),
    ),
    Recipe(
        OneOf,
        lambda rng: OneOf(("My answer is yes.", "My answer is no.", "My answer is maybe.")),
        ("Answer with one of these and nothing else: {options}.",),
        lambda text, asked, rng: rng.choice(asked.options),
        FRAME,
        TAKES,
    ),
)
