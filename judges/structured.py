"""JSON answers: read out of a response, held against a schema. Schemas need envhub-rl[judges] (jsonschema)."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from envhub.contracts.messages import JsonObject, JsonValue
from envhub.contracts.score import JudgeInput, Score
from envhub.errors import JudgeFault, UsageError
from judges.extraction import fenced
from judges.processes import TimedOut, killable

LONGEST = 1 << 20  # characters of a response that are read
DEEPEST = 64  # levels of lists and objects


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


DECODER = json.JSONDecoder(parse_constant=_no_constant)


class NoJson(ValueError):
    """The text holds no JSON that can be read; the message says why."""


def json_in(response: str) -> JsonValue:
    """The JSON value that a response is, or else that its last block of code holds, or else the last list or object
    in it that can be read. NaN and infinities are no JSON.

    Raises:
        NoJson: there is none, it is too long, or too deep.
    """
    if len(response) > LONGEST:
        raise NoJson(f"the response has {len(response)} characters; at most {LONGEST} are read")
    try:  # most often it is nothing else, and `suppress` would take a tenth of the time
        return _read(response)
    except ValueError:
        pass
    block = fenced()(response)
    if block is not None:
        with suppress(ValueError):
            return _read(block)
    return _last_value(response)


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """1 where the response's JSON satisfies a schema (and, with `compare`, also is the task's answer), else 0.

    Raises:
        UsageError: no valid schema, or no package for schemas; (of a call) with `compare`, a task without an answer.
        JudgeFault: (of a call) a pattern of the schema ran over `timeout_s`.
    """

    schema: JsonObject
    compare: bool = False
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        error = cast(str, killable(_schema_error, json.dumps(self.schema), timeout_s=30.0, modules=("jsonschema",)))
        if error:
            raise UsageError(f"no valid JSON schema: {error}")

    def __call__(self, input: JudgeInput) -> Score:
        if self.compare and input.task.answer is None:
            raise UsageError(f"task '{input.task.id}' has no answer to compare with")
        try:
            given = json_in(input.response)
        except NoJson as error:
            return Score(0.0, self._parts(0.0, 0.0, 0.0), str(error))
        complaint = self._complaint(given)
        if complaint or not self.compare:
            return Score(float(not complaint), self._parts(1.0, float(not complaint), 0.0), complaint)
        same = float(same_json(given, input.task.answer))
        return Score(same, self._parts(1.0, 1.0, same), "" if same else "another value than the task's answer")

    def _complaint(self, given: JsonValue) -> str:
        """What the schema says against it; "" for nothing."""
        arguments = json.dumps(self.schema), json.dumps(given)
        try:
            return cast(str, killable(_violation, *arguments, timeout_s=self.timeout_s, modules=("jsonschema",)))
        except TimedOut as error:
            raise JudgeFault(f"the schema took over {self.timeout_s:g} s; look for nested repetitions in it") from error

    def _parts(self, parsed: float, valid: float, correct: float) -> dict[str, float]:
        return {"parsed": parsed, "valid": valid} | ({"correct": correct} if self.compare else {})


def same_json(left: JsonValue, right: JsonValue) -> bool:
    """Whether two values say the same: 1 and 1.0 do, True and 1 don't, the order of keys does not count."""
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same_json, left, right))
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return left == right


def _read(text: str) -> JsonValue:
    try:
        value: JsonValue = DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if text.count("[") + text.count("{") > DEEPEST and _depth(value) > DEEPEST:
        raise ValueError(f"nested over {DEEPEST} levels deep")
    return value


def _last_value(text: str) -> JsonValue:
    """The last list or object at the top level of a text, which may have words around it."""
    value: JsonValue = None
    at, tries = _next(text, 0), 0
    while at >= 0 and tries < 100:  # each try may read all the rest
        try:
            read, end = DECODER.raw_decode(text, at)
            value, at = (read if _depth(read) <= DEEPEST else value), _next(text, end)
        except (ValueError, RecursionError):
            at, tries = _next(text, at + 1), tries + 1
    if value is None:
        raise NoJson("no JSON in the response")
    return value


def _next(text: str, start: int) -> int:
    """Where the next list or object may begin; -1: nowhere."""
    return min((at for at in (text.find("{", start), text.find("[", start)) if at >= 0), default=-1)


def _depth(value: JsonValue) -> int:
    """How deep lists and objects are nested, counted without recursion and not beyond what matters."""
    level, depth = [value], 0
    while level and depth <= DEEPEST:
        level = [inner for one in level if isinstance(one, Mapping | list) for inner in _inside(one)]
        depth += bool(level)
    return depth


def _inside(value: Mapping[str, JsonValue] | list[JsonValue]) -> list[JsonValue]:
    return list(value.values()) if isinstance(value, Mapping) else value


def _schema_error(schema: str) -> str:
    """In a worker."""
    import jsonschema  # a package of the extra: in no process but the workers

    read = json.loads(schema)
    try:
        jsonschema.validators.validator_for(read).check_schema(read)
    except jsonschema.SchemaError as error:
        return f"{error.json_path}: {error.message}"[:300]
    return ""


def _violation(schema: str, value: str) -> str:
    """In a worker. The first thing that a schema says against a value. References to elsewhere are not fetched."""
    import jsonschema
    import referencing

    read = json.loads(schema)
    validator = jsonschema.validators.validator_for(read)(read, registry=referencing.Registry())
    error = jsonschema.exceptions.best_match(validator.iter_errors(json.loads(value)))
    return "" if error is None else f"{error.json_path}: {error.message}"[:300]
