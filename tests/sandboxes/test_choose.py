"""Choosing a back end: by name it must work, by "auto" it must isolate as well."""

import pytest

from envhub.contracts.sandbox import Probe, Sandbox, SandboxSpec
from envhub.errors import UnknownName, UsageError
from sandboxes.choose import choose

pytestmark = pytest.mark.anyio


class Backend:
    def __init__(self, name: str, works: bool, isolates: bool) -> None:
        self.name = name
        self._probe = Probe(works, isolates, f"detail of {name}")

    async def probe(self) -> Probe:
        return self._probe

    async def create(self, spec: SandboxSpec) -> Sandbox:
        raise NotImplementedError


BACKENDS = {
    "broken": lambda: Backend("broken", False, True),
    "open": lambda: Backend("open", True, False),
    "shut": lambda: Backend("shut", True, True),
}


async def test_auto_takes_the_first_that_works_and_isolates() -> None:
    backend = await choose("auto", BACKENDS)
    assert backend is not None
    assert backend.name == "shut"


async def test_auto_takes_nothing_rather_than_one_that_does_not_isolate() -> None:
    assert await choose("auto", {name: BACKENDS[name] for name in ("broken", "open")}) is None


async def test_one_without_isolation_is_taken_when_named() -> None:
    backend = await choose("open", BACKENDS)
    assert backend is not None
    assert backend.name == "open"


async def test_named_one_that_does_not_work_says_why() -> None:
    with pytest.raises(UsageError, match="detail of broken"):
        await choose("broken", BACKENDS)


async def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean shut"):
        await choose("shot", BACKENDS)
