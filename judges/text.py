"""Reward functions over the text of the last assistant message."""

import re
import unicodedata
from collections import deque
from decimal import Decimal

from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.errors import UsageError

# An answer stands at the end of a response: of a longer one, this much of it is read.
TAIL = 4096
# Digits with or without commas between thousands, a fraction, an exponent. A minus after a word, a digit or a closing
# bracket is a subtraction, not a sign.
NUMBER = re.compile(
    r"(?:(?<![\w.)\]])[-\u2212])?"
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:[eE][-+]?[0-9]{1,3}(?![0-9]))?"
)

# Of "U.S.A." and "don't" the marks vanish; other punctuation parts words.
INSIDE = re.compile(r"(?<=[^\W\d_])[.'’](?=[^\W\d_]|\W|$)")
# What is no word: all but letters, digits and marks, and what belongs to a number.
APART = re.compile(r"(?!(?<=\d)[.,/:](?=\d)|(?<!\w)[-+.](?=\d))[^\w]|_")


def exact(input: JudgeInput) -> Score:
    """1 where the response is the task's answer but for white space around it, else 0.

    Raises:
        UsageError: the task's answer is neither text nor a number.
    """
    answer = input.task.answer
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise UsageError(f"task '{input.task.id}' has the answer {answer!r}; judge 'exact' needs text or a number")
    correct = float(input.response.strip() == str(answer).strip())
    return Score(correct, {"correct": correct})


def normalised(input: JudgeInput) -> Score:
    """1 where response and answer are the same words: case, accents' encoding, punctuation, articles and white space
    aside, as SQuAD compares (arXiv:1606.05250). An answer that is a list names several that are right.

    Raises:
        UsageError: the task's answer is neither text nor a number, nor a list of these, or has no word.
    """
    given = words(input.response[-TAIL:])
    correct = float(given in _accepted(input.task))
    return Score(correct, {"correct": correct, "answered": float(bool(given))})


def words(text: str) -> str:
    """A text as `normalised` compares it. A sign, a point or a comma inside a number stays: 1.5 is not 15."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    parts = APART.sub(" ", INSIDE.sub("", folded)).split()
    return " ".join([part for part in parts if part not in ("a", "an", "the")] or parts)


def number(input: JudgeInput, *, tolerance: float = 1e-6) -> Score:
    """1 where the last number of the response is the task's answer, within an absolute tolerance, else 0.

    Raises:
        UsageError: the task's answer is no finite number.
    """
    expected = _answer(input.task)
    given = last_number(input.response)
    if given is None:
        return Score(0.0, {"correct": 0.0, "answered": 0.0}, "no number in the response")
    correct = float(abs(given - expected) <= Decimal(tolerance))
    return Score(correct, {"correct": correct, "answered": 1.0}, f"{_short(given)} where {_short(expected)} is right")


def finished(input: JudgeInput) -> Score:
    """1 where the episode came to its end by itself, 0 where a limit cut it: what is asked of a sub-agent."""
    done = float(not input.truncated_by)
    return Score(done, {"finished": done}, f"cut by {input.truncated_by}" if input.truncated_by else "")


def numbers_in(text: str) -> list[Decimal]:
    """The numbers written in a text, in order."""
    return [_decimal(found[0]) for found in NUMBER.finditer(text[-TAIL:])]


def last_number(text: str) -> Decimal | None:
    """The last number written in a text; None where there is none."""
    found = deque(NUMBER.finditer(text[-TAIL:]), maxlen=1)
    return _decimal(found[0][0]) if found else None


def _accepted(task: Task) -> set[str]:
    answers = task.answer if isinstance(task.answer, list | tuple) else [task.answer]
    if any(isinstance(answer, bool) or not isinstance(answer, str | int | float) for answer in answers):
        raise UsageError(f"task '{task.id}' has the answer {task.answer!r}; judge 'normalised' needs text, or a list")
    accepted = {words(str(answer)) for answer in answers}
    if not accepted or "" in accepted:
        raise UsageError(f"task '{task.id}' has the answer {task.answer!r}; without punctuation no word is left")
    return accepted


def _answer(task: Task) -> Decimal:
    answer = task.answer
    if type(answer) is int:
        return Decimal(answer)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise UsageError(f"task '{task.id}' has the answer {answer!r}; judge 'number' needs a number")
    text = str(answer).strip()
    if NUMBER.fullmatch(text) is None:
        raise UsageError(f"task '{task.id}' has the answer {answer!r}; judge 'number' needs a finite number")
    return _decimal(text)


def _decimal(text: str) -> Decimal:
    return Decimal(text.replace(",", "").replace("\u2212", "-"))


def _short(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
