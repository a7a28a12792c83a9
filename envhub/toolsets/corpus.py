"""Corpus: pages that an agent may search and open, and files that it may download; all of it local."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest

from envhub.errors import UsageError

WORD = re.compile(r"\w+")
# BM25 with the usual constants: Robertson and Zaragoza, "The Probabilistic Relevance Framework" (2009), eq. 3.15.
SATURATION = 1.2
LENGTH_WEIGHT = 0.75
TITLE_WEIGHT = 3  # times that a word of the title counts


@dataclass(frozen=True, slots=True)
class Page:
    """A text under its address."""

    url: str
    title: str
    text: str


class Corpus:
    """Pages in a search index, and files by their addresses. It never changes, so that many rollouts share one.

    Raises:
        UsageError: two pages or files have one address.
    """

    def __init__(self, pages: Iterable[Page], files: Mapping[str, bytes] | None = None) -> None:
        self.pages: dict[str, Page] = {}
        self.files = dict(files or {})
        for page in pages:
            if page.url in self.pages or page.url in self.files:
                raise UsageError(f"two pages of a corpus have the address '{page.url}'; give each its own")
            self.pages[page.url] = page

    def search(self, query: str, most: int) -> list[Page]:
        """Up to `most` pages that have words of the query, the most relevant first; of equals, the one that was given
        first."""
        marks: dict[int, float] = {}
        for word in set(words(query)):
            for number, mark in self._index.get(word, ()):
                marks[number] = marks.get(number, 0.0) + mark
        pages = list(self.pages.values())
        return [pages[number] for number in nsmallest(most, marks, key=lambda number: (-marks[number], number))]

    @cached_property
    def _index(self) -> dict[str, list[tuple[int, float]]]:
        """By word: the numbers of the pages that have it, each with what the word adds to its mark."""
        counts = [_counted(page) for page in self.pages.values()]
        lengths = [count.total() for count in counts]
        mean = sum(lengths) / max(1, len(lengths))
        postings: dict[str, list[tuple[int, int]]] = {}
        for number, count in enumerate(counts):
            for word, times in count.items():
                postings.setdefault(word, []).append((number, times))
        return {
            word: [
                (number, _rarity(len(found), len(counts)) * _saturated(times, lengths[number] / mean))
                for number, times in found
            ]
            for word, found in postings.items()
        }


def words(text: str) -> list[str]:
    """A text as the index sees it."""
    return WORD.findall(text.casefold())


def _counted(page: Page) -> Counter[str]:
    return Counter(words(page.title) * TITLE_WEIGHT + words(page.text))


def _rarity(pages: int, of: int) -> float:
    return math.log(1 + (of - pages + 0.5) / (pages + 0.5))


def _saturated(times: int, length: float) -> float:
    return times * (SATURATION + 1) / (times + SATURATION * (1 - LENGTH_WEIGHT + LENGTH_WEIGHT * length))
