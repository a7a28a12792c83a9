"""Recipes on letters: case, frequency, script, palindromes, alliteration."""

from random import Random

from envhub.prompts.instructions.recipe import (
    ADD,
    CASE,
    END,
    LENGTH,
    LETTER,
    LETTERS,
    PLACE,
    SCRIPT,
    SENTENCES,
    SHAPE,
    START,
    WORDS,
    AnyRecipe,
    Recipe,
)
from envhub.prompts.instructions.wording import (
    ACROSTICS,
    ALLITERATIONS,
    IN_SCRIPT,
    KEYWORDS,
    LINES_BY_LETTER,
    PALINDROMES,
    RARE_LETTERS,
    prepended,
    with_missing,
)
from judges.instructions import (
    Acrostic,
    Alliteration,
    CapitalWords,
    LetterCount,
    Lowercase,
    NoAlliteration,
    Palindromes,
    Script,
    TitleCase,
    Uppercase,
    WithoutLetter,
)
from judges.instructions.measures import WORD


def _lettered(text: str) -> str:
    """With a letter, in words of which any case can be asked."""
    return text if any(map(str.isalpha, text)) else prepended(text, "This it is:")


def _titled(text: str, asked: TitleCase, rng: Random) -> str:
    return WORD.sub(lambda found: found[0][0].upper() + found[0][1:], _lettered(text))


def _capitals(text: str, asked: CapitalWords, rng: Random) -> str:
    words = rng.sample(KEYWORDS, asked.at_least)
    return with_missing(text, asked, (f"Think of the {word.upper()}." for word in words))


def _letters(text: str, asked: LetterCount, rng: Random) -> str:
    while asked.count(text) < asked.at_least:
        text = prepended(text, f"{asked.letter.upper()} is a letter.")
    return text


def _without_letter(text: str, asked: WithoutLetter, rng: Random) -> str:
    return " ".join(part for part in text.split(" ") if asked.letter not in part.casefold()) or "None."


def _palindromes(text: str, asked: Palindromes, rng: Random) -> str:
    words = rng.sample(PALINDROMES, asked.at_least)
    return with_missing(text, asked, (f"Let me say {word} here." for word in words))


def _acrostic(text: str, asked: Acrostic, rng: Random) -> str:
    last = " ".join(text.split())
    given = [LINES_BY_LETTER[letter] for letter in asked.word]
    return "\n".join([*given[:-1], f"{given[-1]} {last}"])


def _no_alliteration(text: str, asked: NoAlliteration, rng: Random) -> str:
    kept: list[str] = []
    for part in text.split():
        if not kept or asked(f"{kept[-1]} {part}"):
            kept.append(part)
    return " ".join(kept)


def _in_script(text: str, asked: Script, rng: Random) -> str:
    rest = "".join(each for each in text if not each.isalpha()).strip()
    return f"{IN_SCRIPT[asked.script]} {rest}".strip()


RECIPES: tuple[AnyRecipe, ...] = (
    Recipe(
        Uppercase,
        lambda rng: Uppercase(),
        ("Write in capital letters only.", "YOUR ANSWER MUST BE ALL IN CAPITALS."),
        lambda text, asked, rng: _lettered(text).upper(),
        LETTER,
        frozenset((CASE,)),
    ),
    Recipe(
        Lowercase,
        lambda rng: Lowercase(),
        ("Write in lowercase letters only.", "no capital letters at all, please."),
        lambda text, asked, rng: _lettered(text).lower(),
        LETTER,
        frozenset((CASE,)),
    ),
    Recipe(
        TitleCase,
        lambda rng: TitleCase(),
        ("Begin every word with a capital letter, as in a title; articles and short prepositions may stay small.",),
        _titled,
        LETTER,
        frozenset((CASE,)),
    ),
    Recipe(
        CapitalWords,
        lambda rng: CapitalWords(rng.randrange(2, 6)),
        ("Write {amount} all in capital letters.", "There should be {amount} in capitals only."),
        _capitals,
        ADD,
        frozenset((CASE, SCRIPT)),
        "words",
    ),
    Recipe(
        LetterCount,
        lambda rng: LetterCount(rng.randrange(5, 15), None, rng.choice("aeorst")),
        ('The letter "{letter}" should appear {amount}.', 'Let the letter "{letter}" stand there {amount}.'),
        _letters,
        ADD,
        frozenset((LETTERS, SCRIPT)),
        "times",
    ),
    Recipe(
        WithoutLetter,
        lambda rng: WithoutLetter(rng.choice(RARE_LETTERS)),
        ('Use no word that has the letter "{letter}".', 'The letter "{letter}" must not appear anywhere.'),
        _without_letter,
        PLACE,
        frozenset((LETTERS,)),
    ),
    Recipe(
        Script,
        lambda rng: Script(rng.choice(sorted(IN_SCRIPT))),
        ("Answer in a language that is written in {script} script; no other script is allowed.",),
        _in_script,
        PLACE,
        frozenset((CASE, LENGTH, LETTERS, SCRIPT, SENTENCES, START, END, SHAPE, WORDS)),
    ),
    Recipe(
        Palindromes,
        lambda rng: Palindromes(rng.randrange(1, 4)),
        ("Include {amount}, words that read the same backwards.", "Use {amount} of three letters or more."),
        _palindromes,
        ADD,
        frozenset((SCRIPT,)),
        "palindromes",
    ),
    Recipe(
        Alliteration,
        lambda rng: Alliteration(rng.randrange(3, 5)),
        ("At some place {length} words in a row must begin with the same letter.",),
        lambda text, asked, rng: prepended(text, f"{rng.choice(ALLITERATIONS)}.".capitalize()),
        ADD,
        frozenset((WORDS, SCRIPT)),
    ),
    Recipe(
        NoAlliteration,
        lambda rng: NoAlliteration(),
        ("No two words in a row may begin with the same letter.",),
        _no_alliteration,
        PLACE,
        frozenset((WORDS, SHAPE, START, END, SCRIPT)),
    ),
    Recipe(
        Acrostic,
        lambda rng: Acrostic(rng.choice(ACROSTICS)),
        ('The first letters of your lines must spell "{word}".', 'Write an acrostic: the lines begin with "{word}".'),
        _acrostic,
        PLACE,
        frozenset((SHAPE, START, LENGTH, SENTENCES, SCRIPT)),
    ),
)
