"""The pages of the documentation, taken apart: their links, code blocks, commands and names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

BLOCK = re.compile(r"^(?:<!-- run(?:: (\w+))? -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"^<!-- run(?:: \w+)? -->\n```", re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
COMMAND = re.compile(r"(?:^|[\s/])envhub(?: .*)?$")
LANGUAGES_OF_COMMANDS = ("sh", "")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code. `run` says beside what it runs, "" for nothing; None: it is not run."""

    page: Path
    line: int
    language: str
    code: str
    run: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in BLOCK.finditer(text):
        marked = RUN.match(found[0]) is not None
        line = text.count("\n", 0, found.start(3))
        yield Block(page, line, found[2], found[3], (found[1] or "") if marked else None)


def prose(page: Path) -> str:
    """The page without its blocks."""
    return BLOCK.sub("", page.read_text())


def links(page: Path) -> Iterator[str]:
    """The targets that are no URLs."""
    return (target for target in LINK.findall(prose(page)) if "://" not in target)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them: lower case, no punctuation, hyphens for spaces."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))}


def inline_code(page: Path) -> list[str]:
    return INLINE.findall(prose(page))


def commands(page: Path) -> Iterator[str]:
    """Every mention of the envhub command with its arguments, from "envhub" on."""
    lines = inline_code(page)
    for block in blocks(page):
        if block.language in LANGUAGES_OF_COMMANDS:
            lines += block.code.replace("\\\n", " ").splitlines()
    for line in lines:
        found = COMMAND.search(line.partition(" #")[0])
        if found:
            yield found[0].strip().lstrip("/")
