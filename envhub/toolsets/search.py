"""SearchToolset: search, open_page and find over a local corpus; DownloadToolset: download as well.

A page is named by its address and a line in each call. There is no page that is open now, so that calls of one action
may run side by side, and a rollout may go on in another process.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from envhub.contracts.task import Task
from envhub.toolsets.corpus import Corpus, Page, words
from envhub.toolsets.tool import TOOL_THREADS, tool
from envhub.toolsets.toolset import Toolset

if TYPE_CHECKING:
    from envhub.contracts.context import Context

MOST_QUERIES = 10  # in one call
MOST_RESULTS = 5  # of one query
VIEW_LINES = 40
MOST_FOUND = 20  # lines
LINE_CHARS = 400  # that are shown
SNIPPET_CHARS = 160


class SearchToolset(Toolset):
    """A search engine and a browser over the corpus that `corpus_of` gives for the rollout's task."""

    def __init__(self, corpus_of: Callable[[Task], Corpus]) -> None:
        self._corpus_of = corpus_of

    async def open(self, ctx: "Context") -> None:
        await super().open(ctx)
        self.corpus = await TOOL_THREADS.run(partial(self._corpus_of, ctx.request.task))

    @tool
    def search(self, queries: list[str]) -> str:
        """Search for pages. Each result has a title, an address and the line that suits the query best.

        Args:
            queries: what to look for, up to 10 queries.
        """
        if not queries or len(queries) > MOST_QUERIES:
            raise ValueError(f"there are {len(queries)} queries; give 1 to {MOST_QUERIES} in a call")
        return "\n\n".join(self._results(query) for query in queries)

    @tool
    async def open_page(self, url: str, line: int = 1) -> str:
        """Read a page, 40 lines at a time.

        Args:
            url: its address.
            line: where to begin.
        """
        page = self._page(url)
        lines = page.text.splitlines()
        if not 1 <= line <= max(1, len(lines)):
            raise ValueError(f"line {line} of {len(lines)}; begin at 1 to {max(1, len(lines))}")
        end = min(line + VIEW_LINES - 1, len(lines))
        more = f"\n[{len(lines) - end} more lines: open_page with line {end + 1}]" if end < len(lines) else ""
        shown = "\n".join(_numbered(lines, number) for number in range(line, end + 1))
        return f"{page.title}\n{page.url}, lines {line}-{end} of {len(lines)}\n{shown}{more}"

    @tool
    async def find(self, url: str, text: str) -> str:
        """Find the lines of a page that contain a text, whatever its case.

        Args:
            url: the page's address.
            text: what to look for.
        """
        lines = self._page(url).text.splitlines()
        if not text.strip():
            raise ValueError("the text is empty")
        found = [number for number, line in enumerate(lines, 1) if text.casefold() in line.casefold()]
        rest = f"\n[{len(found) - MOST_FOUND} more lines]" if len(found) > MOST_FOUND else ""
        shown = "".join(f"\n{_numbered(lines, number)}" for number in found[:MOST_FOUND])
        return f"{len(found)} of {len(lines)} lines{':' if found else ''}{shown}{rest}"

    def _results(self, query: str) -> str:
        found = self.corpus.search(query, MOST_RESULTS)
        shown = "".join(f"\n- {page.title}\n  {page.url}\n  {_snippet(page, query)}" for page in found)
        return f"{query}: {f'{len(found)} pages' if found else 'nothing found'}{shown}"

    def _page(self, url: str) -> Page:
        page = self.corpus.pages.get(url.strip())
        if page is None:
            kind = "a file, which can't be read as a page" if url.strip() in self.corpus.files else "no page"
            raise ValueError(f"'{url}' is {kind}; open what a search found, or what a page links to")
        return page


class DownloadToolset(SearchToolset):
    """The same, and files that can be downloaded."""

    @tool
    async def download(self, url: str) -> str:
        """Download a file. The receipt gives its name, its size, and the first 12 digits of its SHA-256 checksum.

        Args:
            url: the file's address.
        """
        data = self.corpus.files.get(url.strip())
        if data is None:
            raise ValueError(f"there is no file at '{url}'; download what a page links to")
        return f"{url.strip().rpartition('/')[2]}: {len(data)} bytes, checksum {checksum(data)}"


def checksum(data: bytes) -> str:
    """As receipts of downloads give it."""
    return hashlib.sha256(data).hexdigest()[:12]


def _numbered(lines: list[str], number: int) -> str:
    return f"{number}: {lines[number - 1][:LINE_CHARS]}"


def _snippet(page: Page, query: str) -> str:
    """The line with the most words of the query; of equals, the first."""
    wanted = set(words(query))
    lines = [line for line in page.text.splitlines() if line.strip()] or [""]
    return max(lines, key=lambda line: len(wanted.intersection(words(line))))[:SNIPPET_CHARS]
