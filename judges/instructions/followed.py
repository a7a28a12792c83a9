"""Followed: the share of a task's instructions that a response follows."""

from collections.abc import Sequence
from dataclasses import dataclass

from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import UsageError
from judges.instructions.instruction import Instruction, read

LONGEST = 200_000  # characters: a longer response follows nothing


@dataclass(frozen=True, slots=True)
class Followed:
    """The share of `metadata[key]`'s instructions that the response follows; `gate(component(...))` asks for all.

    Strictly, or with `loose` as IFEval (arXiv:2311.07911 §2.2) forgives it: also followed is what holds of the response
    without its asterisks, its first line, its last line, or several of these. Components: `strict` and `loose` (both
    shares), and 1 or 0 for each instruction by its kind.

    Raises:
        UsageError: (of a call) the task has no instructions, or one that can't be read.
    """

    loose: bool = False
    key: str = "instructions"

    def __call__(self, input: JudgeInput) -> Score:
        asked, given = instructions_of(input.task, self.key), input.response
        response = given if len(given) <= LONGEST else ""
        strict = [follows(each, response) for each in asked]
        others = [] if all(strict) else forms(response)
        loose = [done or _in_any(others, each) for each, done in zip(asked, strict, strict=True)]
        marks = loose if self.loose else strict
        shares = {"strict": sum(strict) / len(asked), "loose": sum(loose) / len(asked)}
        named = {name: float(mark) for name, mark in zip(_names(asked), marks, strict=True)}
        missed = [str(each) for each, mark in zip(asked, marks, strict=True) if not mark]
        return Score(shares["loose" if self.loose else "strict"], shares | named, _remark(given, missed))


followed = Followed()


def instructions_of(task: Task, key: str = "instructions") -> tuple[Instruction, ...]:
    """What a task asks of the form of its response.

    Raises:
        UsageError: nothing, or something that can't be read.
    """
    given = task.metadata.get(key)
    if not isinstance(given, list | tuple) or not given:
        raise UsageError(f"task '{task.id}': metadata['{key}'] is {given!r}; it must list instructions")
    return tuple(read(each) for each in given)


def follows(instruction: Instruction, response: str) -> bool:
    """Whether a response follows it to the letter. An empty one follows nothing."""
    return bool(response.strip()) and instruction(response)


def follows_loosely(instruction: Instruction, response: str) -> bool:
    """Whether a form of the response follows it."""
    return _in_any(forms(response), instruction)


def forms(response: str) -> list[str]:
    """The eight forms that IFEval looks at, the response itself first, and none twice."""
    lines = response.split("\n")
    parts = ["\n".join(part).strip() for part in (lines, lines[1:], lines[:-1], lines[1:-1])]
    return list(dict.fromkeys(form for part in parts for form in (part, part.replace("*", ""))))


def _in_any(forms: Sequence[str], instruction: Instruction) -> bool:
    return any(follows(instruction, form) for form in forms)


def _names(asked: Sequence[Instruction]) -> list[str]:
    kinds = [each.kind for each in asked]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}_{kinds[: at + 1].count(kind)}" for at, kind in enumerate(kinds)
    ]


def _remark(response: str, missed: Sequence[str]) -> str:
    if len(response) > LONGEST:
        return f"the response has {len(response)} characters; of more than {LONGEST} none is followed"
    return f"not followed: {', '.join(missed)}" if missed else ""
