"""Docstring: what a tool says of itself and, in a Google-style `Args:` section, of its parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import cleandoc

_SECTION = re.compile(r"^(Args|Arguments|Parameters|Returns|Yields|Raises|Examples?|Notes?):\s*$", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+)(?:\s*\([^)]*\))?:\s*")


@dataclass(frozen=True, slots=True)
class Docstring:
    """The text before the first section, and the text of each parameter."""

    summary: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> "Docstring":
        head, *rest = _SECTION.split(cleandoc(text))
        sections = dict(zip(rest[::2], rest[1::2], strict=True))
        entries = next((sections[name] for name in ("Args", "Arguments", "Parameters") if name in sections), "")
        return cls(head.strip(), _entries(entries))


def _entries(section: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    name = ""
    for line in cleandoc(section).splitlines():
        entry = _ENTRY.match(line)
        if entry:
            name = entry[1]
            texts[name] = line[entry.end() :].strip()
        elif name and line.strip():
            texts[name] = f"{texts[name]} {line.strip()}".strip()
    return texts
