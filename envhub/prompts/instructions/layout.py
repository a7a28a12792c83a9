"""Recipes on form: JSON, Markdown, lists, sections, titles, placeholders."""

import json
from collections.abc import Callable
from random import Random

from envhub.prompts.instructions.recipe import (
    ADD,
    DIGITS,
    END,
    FRAME,
    MARKS,
    PART,
    SCRIPT,
    SENTENCES,
    SHAPE,
    START,
    AnyRecipe,
    Recipe,
)
from envhub.prompts.instructions.wording import KEYWORDS, prepended, with_missing
from envhub.prompts.instructions.wording import SENTENCES as BANK
from judges.instructions import (
    Asides,
    Bullets,
    CodeBlock,
    Counted,
    Headings,
    Highlights,
    JsonOnly,
    NumberedList,
    Placeholders,
    Sections,
    Table,
    Title,
    TwoResponses,
)


def _bullets(text: str, asked: Bullets, rng: Random) -> str:
    missing = asked.at_least - asked.count(text)
    return "\n".join([*(f"* {each}" for each in rng.sample(BANK, missing)), text])


def _numbered(text: str, asked: NumberedList, rng: Random) -> str:
    given = rng.sample(BANK, asked.at_least)
    return "\n".join([*(f"{number}. {each}" for number, each in enumerate(given, 1)), text])


def _sections(text: str, asked: Sections, rng: Random) -> str:
    given = [*rng.sample(BANK, asked.at_least - 1), text]
    return "\n".join(f"{asked.marker} {number}\n{each}" for number, each in enumerate(given, 1))


def _headings(text: str, asked: Headings, rng: Random) -> str:
    names = rng.sample(KEYWORDS, asked.at_least)
    return "\n".join([*(f"# {name.capitalize()}\n{rng.choice(BANK)}" for name in names), text])


def _thinking(form: str) -> Callable[[str, Counted, Random], str]:
    """Amends a text with thoughts of as many things as are missing, each in a form."""

    def amend(text: str, asked: Counted, rng: Random) -> str:
        words = rng.sample(KEYWORDS, asked.at_least)
        return with_missing(text, asked, (f"Think of the {form.format(word)}." for word in words))

    return amend


def _table(text: str, asked: Table, rng: Random) -> str:
    rows = [rng.sample(KEYWORDS, asked.columns) for _ in range(2)]
    head, row = ("| " + " | ".join(each) + " |" for each in rows)
    return f"{head}\n|{'---|' * asked.columns}\n{row}\n\n{text}"


def _fenced(text: str) -> str:
    return f"```\n{text.replace('```', '')}\n```"


RECIPES: tuple[AnyRecipe, ...] = (
    Recipe(
        JsonOnly,
        lambda rng: JsonOnly(),
        ("Give your whole response as JSON.", "Respond with one JSON object and nothing beside it."),
        lambda text, asked, rng: json.dumps({"Answer": text}, ensure_ascii=False),
        FRAME,
        frozenset((SHAPE, START, END, MARKS)),
    ),
    Recipe(
        CodeBlock,
        lambda rng: CodeBlock(),
        ("Put your whole response into one fenced code block.", "Answer inside triple backticks; nothing around them."),
        lambda text, asked, rng: _fenced(text),
        FRAME,
        frozenset((SHAPE, START, END)),
    ),
    Recipe(
        Bullets,
        lambda rng: Bullets(count := rng.randrange(2, 6), count),
        ("Include {amount}: lines that begin with *.", "Your answer must contain {amount} in markdown."),
        _bullets,
        PART,
        frozenset((SHAPE, START, SCRIPT)),
        "bullet points",
    ),
    Recipe(
        NumberedList,
        lambda rng: NumberedList(count := rng.randrange(2, 6), count),
        ("Include a numbered list of {amount}, from 1 on.",),
        _numbered,
        PART,
        frozenset((SHAPE, START, DIGITS, SENTENCES, SCRIPT)),
        "items",
    ),
    Recipe(
        Sections,
        lambda rng: Sections(count := rng.randrange(2, 5), count, rng.choice(("Section", "Part", "Chapter"))),
        ('Write {amount}. Begin each with "{marker}" and its number, as in {marker} 1.',),
        _sections,
        PART,
        frozenset((SHAPE, START, DIGITS, SENTENCES, SCRIPT)),
        "sections",
    ),
    Recipe(
        Headings,
        lambda rng: Headings(count := rng.randrange(1, 4), count),
        ("Structure your answer with {amount}, as # in markdown.",),
        _headings,
        PART,
        frozenset((SHAPE, START, SENTENCES, SCRIPT)),
        "headings",
    ),
    Recipe(
        Title,
        lambda rng: Title(),
        ("Give your answer a title in double angular brackets, like <<a day of joy>>.",),
        lambda text, asked, rng: prepended(text, f"<<The {rng.choice(KEYWORDS)}>>"),
        ADD,
        frozenset((SCRIPT,)),
    ),
    Recipe(
        Highlights,
        lambda rng: Highlights(rng.randrange(1, 5)),
        ("Highlight {amount} in markdown, as in *a highlighted part*.",),
        _thinking("*{}*"),
        ADD,
        frozenset((SCRIPT,)),
        "parts",
    ),
    Recipe(
        Placeholders,
        lambda rng: Placeholders(rng.randrange(1, 5)),
        ("Include {amount} in square brackets, such as [address].",),
        _thinking("[{}]"),
        ADD,
        frozenset((SCRIPT,)),
        "placeholders",
    ),
    Recipe(
        Asides,
        lambda rng: Asides(rng.randrange(1, 4)),
        ("Put {amount} in parentheses.", "Use {amount} in parentheses, (like this one)."),
        _thinking("place (by the {})"),
        ADD,
        frozenset((SCRIPT,)),
        "remarks",
    ),
    Recipe(
        Table,
        lambda rng: Table(rng.randrange(2, 5)),
        ("Include a markdown table of {columns} columns with at least one row.",),
        _table,
        PART,
        frozenset((SHAPE, START, SENTENCES, SCRIPT)),
    ),
    Recipe(
        TwoResponses,
        lambda rng: TwoResponses(),
        ("Give two different responses, with six asterisks between them: ******.",),
        lambda text, asked, rng: f"{' '.join(rng.sample(BANK, 2))}\n******\n{text.replace('******', '')}",
        PART,
        frozenset((SHAPE, START, SENTENCES, SCRIPT)),
    ),
)
