"""Words and sentences that texts are amended with. None of them has a digit, a comma, or one of the letters j q x z."""

from collections.abc import Callable, Iterable
from itertools import islice
from random import Random

from judges.instructions import Counted

RARE_LETTERS = "jqxz"
KEYWORDS = (
    "river", "garden", "market", "window", "bridge", "summer", "harbour", "letter", "mountain", "kitchen", "silver",
    "forest", "morning", "village", "blanket", "thunder", "copper", "island", "meadow", "lantern",
)  # fmt: skip
SENTENCES = (
    "The old clock still tells time.", "Rain fell over our town.", "My friend paints small boats.",
    "Nobody saw that tall ship.", "A warm wind came from the south.", "Bread and tea were on every table.",
    "Children ran past the open gate.", "Her song was heard far away.", "Most people here like long walks.",
    "This road goes up to a hill.", "Two birds made their nest above us.", "Some days are better than others.",
)  # fmt: skip
PALINDROMES = ("level", "radar", "civic", "noon", "refer", "kayak", "madam", "stats")
ALLITERATIONS = (
    "bright blue birds build",
    "seven silent sailors sing",
    "many merry mice march",
    "five fine foxes find",
)
ACROSTICS = ("tree", "moon", "cloud", "stone", "light")
LINES_BY_LETTER = {
    "t": "Time went by.", "r": "Rain fell.", "e": "Everyone smiled.", "m": "Morning came.", "o": "Our boat left.",
    "n": "Nobody spoke.", "c": "Clouds moved.", "l": "Leaves fell.", "u": "Under us was sand.", "d": "Day broke.",
    "s": "Someone sang.", "i": "It was late.", "g": "Grass grew.", "h": "He waited.",
}  # fmt: skip
STARTS = ("Here is what I found", "Thank you for asking", "Let me think about it", "Good to hear from you")
ENDS = ("I hope this helps.", "That is all.", "Is there anything else?", "Ask me for more at any time.")
POSTSCRIPTS = ("P.S.", "P.P.S.")
IN_SCRIPT = {
    "Cyrillic": "Старая река тихо течёт мимо нашего дома.",
    "Greek": "Το παλιό ποτάμι κυλά ήσυχα δίπλα στο σπίτι μας.",
    "Hebrew": "הנהר הישן זורם בשקט ליד הבית שלנו.",
    "Arabic": "يجري النهر القديم بهدوء قرب بيتنا.",
    "Hangul": "오래된 강이 우리 집 옆을 조용히 흐른다.",
    "Japanese": "古い川は家のそばを静かに流れています。",
    "Han": "老河静静地流过我们的房子。",
}


def prepended(text: str, sentence: str) -> str:
    """What a text says ends as it did: the answer stands there."""
    return f"{sentence} {text}"


def with_missing(text: str, asked: Counted, sentences: Iterable[str]) -> str:
    """A text after as many of these sentences, each with one more of what is counted, as it has too few."""
    for sentence in islice(sentences, max(0, asked.at_least - asked.count(text))):
        text = prepended(text, sentence)
    return text


def grown(text: str, enough: Callable[[str], bool], rng: Random) -> str:
    """Sentences before a text, until it is enough; as long as that helps."""
    for _ in range(100):
        if enough(text):
            break
        text = prepended(text, rng.choice(SENTENCES))
    return text
