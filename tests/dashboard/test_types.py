"""The page's types name what the API answers: types.ts is written by hand, and must not drift from it."""

import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import pytest

import envhub.dashboard
from envhub.contracts.members import MemberState
from envhub.contracts.messages import Role
from envhub.contracts.outcome import Status
from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore

TYPES = (Path(envhub.dashboard.__file__).parent / "web" / "src" / "types.ts").read_text()
INTERFACE = re.compile(r"^export interface (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(r"^  (\w+)\??:", re.MULTILINE)
ERRORS = {"HTTPValidationError", "ValidationError"}  # FastAPI's own; the page reads `detail` alone


def described() -> Mapping[str, set[str]]:
    """The fields of each record that the API answers; RunRecord is Run to the page, as it knows no other."""
    schemas = create_app(MemoryTraceStore(), None).openapi()["components"]["schemas"]
    records = {name: schema for name, schema in schemas.items() if schema["type"] == "object" and name not in ERRORS}
    return {name.removesuffix("Record"): set(schema["properties"]) for name, schema in records.items()}


def test_the_interfaces_of_the_page_are_the_records_of_the_api():
    interfaces = {name: set(FIELD.findall(body)) for name, body in INTERFACE.findall(TYPES)}
    assert interfaces == described()


@pytest.mark.parametrize(
    ("declared", "members"), [("type Status", Status), ("type Role", Role), ("const MEMBER_STATES", MemberState)]
)
def test_the_closed_sets_of_the_page_are_those_of_the_api(declared: str, members: type[StrEnum]):
    declaration = re.search(rf"^export {declared} = (.*?)(?=^export|^$)", TYPES, re.MULTILINE | re.DOTALL)
    assert declaration is not None
    assert re.findall(r"'(\w+)'", declaration[1]) == [str(member) for member in members]
