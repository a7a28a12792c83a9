"""JSON answers and their schemas."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envhub.contracts.task import Task
from envhub.errors import JudgeFault, UsageError
from envhub.testing.judge_suite import JudgeSuite, answered
from judges import JsonSchema
from judges.structured import NoJson, json_in, same_json
from tests.judges.linear import linear

PERSON = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}
TASK = Task.ask("Who?", {"name": "Ada", "age": 36})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


class TestJsonSchema(JudgeSuite):
    @pytest.fixture
    def judge(self):
        return JsonSchema(PERSON, compare=True)

    @pytest.fixture
    def gold(self):
        return answered(TASK, 'It is\n```json\n{"age": 36.0, "name": "Ada"}\n```')

    @pytest.fixture
    def wrong(self):
        return answered(TASK, '{"age": 37, "name": "Ada"}')


@given(JSON)
def test_any_json_is_found_alone_and_in_a_block(value: object):
    text = json.dumps(value)
    assert same_json(json_in(text), value)
    assert same_json(json_in(f"So:\n```json\n{text}\n```\nDone."), value)
    if isinstance(value, list | dict):
        assert same_json(json_in(f"So {text} is it"), value)


@given(JSON, JSON)
def test_same_is_symmetric_and_reflexive(left: object, right: object):
    assert same_json(left, left)
    assert same_json(left, right) == same_json(right, left)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ("1", 1, False),
        (None, False, False),
    ],
)
def test_same_means_the_same(left: object, right: object, same: bool):
    assert same_json(left, right) is same


@pytest.mark.parametrize(
    "response", ["", "nope", "NaN", "[NaN]", "[Infinity]", "[" * 100_000, "{" * 100_000, '{"a":' * 65 + "1" + "}" * 65]
)
def test_what_is_no_json_is_told_in_time(response: str):
    with linear(), pytest.raises(NoJson):
        json_in(response)


def test_of_several_values_the_last_counts():
    assert json_in('first {"a": 1}, then [2, {"b": 3}] and that is it') == [2, {"b": 3}]


@pytest.mark.parametrize(
    ("response", "parts"),
    [
        ('{"name": "Ada"}', {"parsed": 1.0, "valid": 1.0}),
        ('{"name": 1}', {"parsed": 1.0, "valid": 0.0}),
        ("name: Ada", {"parsed": 0.0, "valid": 0.0}),
    ],
)
def test_parsed_is_told_from_valid(response: str, parts: dict):
    assert JsonSchema(PERSON)(answered(TASK, response)).components == parts


def test_what_the_schema_says_is_told():
    assert JsonSchema(PERSON)(answered(TASK, '{"name": 1}')).explanation == "$.name: 1 is not of type 'string'"


def test_a_schema_that_explodes_is_the_judges_fault():
    with pytest.raises(JudgeFault, match=r"the schema took over 0\.3 s"):
        JsonSchema({"pattern": "^(a+)+$"}, timeout_s=0.3)(answered(TASK, json.dumps("a" * 40 + "!")))


def test_a_schema_that_is_none_is_refused_when_it_is_written():
    with pytest.raises(UsageError, match=r"no valid JSON schema: \$\.type"):
        JsonSchema({"type": "objekt"})


def test_a_reference_to_elsewhere_is_never_fetched():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        judge = JsonSchema({"$ref": f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"})
        with pytest.raises(JudgeFault, match="Unresolvable"):
            judge(answered(TASK, "{}"))
        with pytest.raises(BlockingIOError):
            server.accept()
