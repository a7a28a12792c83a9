"""How the research tasks are done: what parts each has, how a part is done, and what becomes of all."""

import re
from collections.abc import Generator, Sequence
from typing import Protocol

from envhub.environments.research.pages import ARRIVALS
from tests.environments.plans import Plan, call

Parts = Generator[Sequence[object], list[str], list[str]]
DATE = r"(\d+-\d+-\d+)"
FORMS = [
    re.compile(re.escape(form).replace(r"\{ship\}", r"(?P<ship>\w+)").replace(r"\{pieces\}", r"(?P<pieces>\d+)"))
    for form in ARRIVALS
]


class Work(Protocol):
    """One kind of task."""

    def parts(self, question: str) -> Parts:
        """What can be done apart from each other."""

    def part(self, name: str) -> Plan:
        """One of them."""

    def whole(self, done: Sequence[str]) -> str:
        """The answer."""


def alone(work: Work, question: str) -> Plan:
    """Part after part."""
    done = []
    for name in (yield from work.parts(question)):
        done.append((yield from work.part(name)))
    return work.whole(done)


def swarm(work: Work, question: str) -> Plan:
    """A sub-agent for each part."""
    if question.startswith("Part: "):
        return (yield from work.part(question.removeprefix("Part: ")))
    names = yield from work.parts(question)
    yield [call("create_subagent", name="helper", system_prompt="You do one part of a task.")]
    done = yield [call("assign_task", agent="helper", prompt=f"Part: {name}") for name in names]
    return work.whole(done)


class Wide:
    def parts(self, question: str) -> Parts:
        island = found(r"island of (\w+)", question)
        (results,) = yield [call("search", queries=[f"Weather stations on {island}"])]
        (page,) = yield [call("open_page", url=found(r"(https\S+/islands/\S+)", results))]
        return re.findall(r"https\S+/stations/\S+", page)

    def part(self, name: str) -> Plan:
        (page,) = yield [call("open_page", url=name)]
        (keeper,) = yield [call("open_page", url=found(r"Its keeper is .*\((\S+)\)", page))]
        cells = (
            found(r"(\w+) weather station", page),
            found(r"founded in (\d+)", page),
            found(r"stands (\d+) metres", page),
            found(r"born in (\d+)", keeper),
        )
        return f"| {' | '.join(cells)} |"

    def whole(self, done: Sequence[str]) -> str:
        return "\n".join(["| station | founded | height | keeper born |", "|---|---|---|---|", *done])


class Deep:
    def parts(self, question: str) -> Parts:
        yield from ()
        return re.split(", | and ", found(r"weather stations (.*) has a keeper", question))

    def part(self, name: str) -> Plan:
        (page,) = yield [call("search", queries=[f"{name} weather station"])]
        for link in (r"(\S+/stations/\S+)", r"Its keeper is .*\((\S+)\)", r"from .*\((\S+)\)", r"in .*\((\S+)\)"):
            (page,) = yield [call("open_page", url=found(link, page))]
        return found(r"has (\d+) people", page)

    def whole(self, done: Sequence[str]) -> str:
        return str(sum(map(int, done)))


class Long:
    def parts(self, question: str) -> Parts:
        station = found(r"weather station (\w+)", question)
        (results,) = yield [call("search", queries=[f"{station} weather station"])]
        (page,) = yield [call("open_page", url=found(r"(\S+/stations/\S+)", results))]
        return re.findall(r"https\S+/logbooks/\S+", page)

    def part(self, name: str) -> Plan:
        text, line = "", 1
        while line:
            (view,) = yield [call("open_page", url=name, line=line)]
            text += view
            more = re.search(r"open_page with line (\d+)", view)
            line = int(more[1]) if more else 0
        return "\n".join(row for day in text.splitlines() if (row := arrival(day)))

    def whole(self, done: Sequence[str]) -> str:
        return "\n".join(["| date | ship | pieces |", "|---|---|---|", *done])


class Bulk:
    def parts(self, question: str) -> Parts:
        island = found(r"island of (\w+)", question)
        (results,) = yield [call("search", queries=[f"Catalogue of records: {island}"])]
        (page,) = yield [call("open_page", url=found(r"(https\S+/catalogue/\S+)", results))]
        return re.findall(r"https\S+/records/\S+", page)

    def part(self, name: str) -> Plan:
        (page,) = yield [call("open_page", url=name)]
        (receipt,) = yield [call("download", url=found(r"current: (\S+)", page))]
        cells = (
            found(r"Records of (\w+)", page),
            found(r"(\d+) bytes", receipt),
            found(r"checksum (\w+)", receipt),
        )
        return f"| {' | '.join(cells)} |"

    def whole(self, done: Sequence[str]) -> str:
        return "\n".join(["| station | bytes | checksum |", "|---|---|---|", *done])


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, f"no {pattern!r} in:\n{text}"
    return match[1]


def arrival(day: str) -> str:
    """A row for a line of a logbook; nothing where no ship put in."""
    told = next((match for form in FORMS if (match := form.search(day))), None)
    return f"| {found(DATE, day)} | {told['ship']} | {told['pieces']} |" if told else ""
