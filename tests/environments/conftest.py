"""Registers environments for one test at a time."""

from collections.abc import Callable, Iterator

import pytest

from envhub.contracts.ids import EnvironmentId
from envhub.contracts.task import Task
from envhub.registry import EnvironmentFactory, EnvironmentSpec, Tasks, environments

TASKS = (Task.ask("3 + 4?", 7),)
Register = Callable[..., EnvironmentSpec]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """Registers a factory as test/it-v0, until the end of the test."""

    def as_spec(factory: EnvironmentFactory, tasks: Tasks = TASKS, max_live: int | None = None) -> EnvironmentSpec:
        spec = EnvironmentSpec(EnvironmentId("test/it-v0"), factory, tasks, "", False, max_live)
        monkeypatch.setitem(environments._known, spec.id, spec)
        return spec

    yield as_spec
