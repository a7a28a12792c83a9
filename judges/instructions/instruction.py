"""Instruction: a demand on a response that a program can verify, and how it is written into a task.

The kinds are those of IFEval (arXiv:2311.07911) and IFBench (arXiv:2507.02833). An instruction is a frozen dataclass of
JSON values whose call says whether a text follows it; its kind is the name of its class.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, fields
from types import MappingProxyType
from typing import TypeVar, dataclass_transform

from envhub.contracts.messages import JsonObject, JsonValue
from envhub.errors import UnknownName, UsageError

_KINDS: dict[str, type["Instruction"]] = {}
_FIELDS: dict[type["Instruction"], Mapping[str, Field[object]]] = {}  # of each kind, by name
KINDS: Mapping[str, type["Instruction"]] = MappingProxyType(_KINDS)
Kind = TypeVar("Kind", bound="Instruction")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One demand.

    Raises:
        UsageError: no response could meet it.
    """

    @property
    def kind(self) -> str:
        return type(self).__name__

    def __call__(self, response: str) -> bool:
        """Whether the response does as it was told."""
        raise NotImplementedError

    def refuse(self, rule: str) -> None:
        """Says what is wrong with its numbers or texts."""
        raise UsageError(f"instruction {self!r} can't be followed: {rule}")


@dataclass(frozen=True, slots=True)
class Counted(Instruction):
    """A demand on how many there are of something. Both bounds may be reached."""

    at_least: int = 0
    at_most: int | None = None

    def __post_init__(self) -> None:
        if self.at_least < 0 or (self.at_most is not None and self.at_most < self.at_least):
            self.refuse("at_least must be 0 or more, and at_most no less than at_least")
        if not self.at_least and self.at_most is None:
            self.refuse("give at_least, at_most or both")

    def count(self, response: str) -> int:
        """How many there are."""
        raise NotImplementedError

    def __call__(self, response: str) -> bool:
        found = self.count(response)
        return self.at_least <= found and (self.at_most is None or found <= self.at_most)


@dataclass_transform(frozen_default=True)
def instruction(kind: type[Kind]) -> type[Kind]:
    """Makes a class a frozen dataclass, and its name a kind that tasks may ask for.

    Raises:
        UsageError: the name is taken.
    """
    made = dataclass(frozen=True, slots=True)(kind)
    if _KINDS.setdefault(kind.__name__, made) is not made:
        raise UsageError(f"instruction '{kind.__name__}' exists already; choose another name")
    _FIELDS[made] = {each.name: each for each in fields(made)}
    return made


def written(instruction: Instruction) -> JsonObject:
    """An instruction as a task's metadata has it: its kind, and what differs from the defaults."""
    defaults = {each.name: each.default for each in fields(instruction)}
    given = {name: value for name, value in asdict(instruction).items() if value != defaults[name]}
    return {"kind": instruction.kind} | {
        name: list(value) if isinstance(value, tuple) else value for name, value in given.items()
    }


def read(data: JsonValue) -> Instruction:
    """The instruction that `written` wrote.

    Raises:
        UsageError: no such kind, a field that is missing, unknown or of another type, or it can't be followed.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("kind"), str):
        raise UsageError(f"an instruction is an object with its kind, like {{'kind': 'NoCommas'}}; this is {data!r}")
    kind = KINDS.get(data["kind"])
    if kind is None:
        raise UnknownName.of("instruction", data["kind"], KINDS)
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name != "kind"}
    wrong = sorted(_wrong(kind, given))
    if wrong:
        shape = ", ".join(f"{name}: {_named(each.type)}" for name, each in _FIELDS[kind].items())
        raise UsageError(f"instruction {dict(data)!r}: {', '.join(wrong)}; {kind.__name__} has {shape or 'no fields'}")
    return kind(**given)


def _wrong(kind: type[Instruction], given: Mapping[str, object]) -> Iterator[str]:
    known = _FIELDS[kind]
    yield from (f"no field '{name}'" for name in given.keys() - known.keys())
    for name, each in known.items():
        if name not in given:
            if each.default is MISSING:
                yield f"'{name}' is missing"
        elif not _fits(given[name], each.type):
            yield f"'{name}' is {given[name]!r}"


def _fits(value: object, wanted: object) -> bool:
    if wanted == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if wanted == int | None:
        return value is None or type(value) is int
    return type(value) is wanted


def _named(wanted: object) -> str:
    return wanted.__name__ if wanted in (int, str) else str(wanted)
