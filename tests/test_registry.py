"""What is registered, and what is refused with a reason."""

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

from envhub.errors import UnknownName, UsageError
from envhub.registry import Registry, environment


@pytest.fixture
def plug_in(monkeypatch):
    """A module with a function `thing`, to which the entry point test/other-v0 of every kind leads."""
    module = ModuleType("envhub_test_plug_in")
    module.thing = lambda: None
    monkeypatch.setitem(sys.modules, module.__name__, module)
    point = EntryPoint("test/other-v0", f"{module.__name__}:thing", "test")
    monkeypatch.setattr("envhub.registry.entry_points", lambda group: [point])
    return module


def test_entry_point_that_registers_another_name_is_told_with_the_way_out(plug_in):
    kind = Registry("environment", "test", decorator="@envhub.environment")
    with pytest.raises(UsageError) as caught:
        kind.get("test/other-v0")
    assert str(caught.value) == (
        "entry point 'test/other-v0' loads envhub_test_plug_in:thing, which registers no environment 'test/other-v0'; "
        "decorate it with @envhub.environment('test/other-v0')"
    )


def test_environments_are_registered_by_their_decorator_alone(plug_in):
    from envhub.registry import environments

    with pytest.raises(UsageError, match="which registers no environment 'test/other-v0'"):
        environments.get("test/other-v0")


def test_entry_point_of_other_kinds_is_the_thing_itself(plug_in):
    assert Registry("agent", "test").get("test/other-v0") is plug_in.thing


def test_a_plug_in_whose_package_is_absent_is_told_with_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "envhub_test_absent", None)
    point = EntryPoint("big", "envhub_test_absent:load", "test")
    monkeypatch.setattr("envhub.registry.entry_points", lambda group: [point])
    with pytest.raises(UsageError, match="engine 'big' needs the package 'envhub_test_absent', which is not installed"):
        Registry("engine", "test").get("big")


@pytest.mark.parametrize("max_live", [0, -1])
def test_cap_below_one_is_refused_when_the_environment_is_registered(max_live):
    with pytest.raises(UsageError, match=rf"max_live of environment 'test/none-v0' is {max_live}; it must be at least"):
        environment("test/none-v0", tasks=[], max_live=max_live)


@pytest.mark.parametrize(
    ("name", "known", "offer"),
    [
        ("demo/sum-v0", ["demo/sums-v0", "demo/products-v0"], "did you mean demo/sums-v0? (see `list`)"),
        ("jugde", ["judge", "judges"], "did you mean judge or judges? (see `list`)"),
        ("zzz", ["b", "a"], "registered: a, b (see `list`)"),
        ("zzz", [f"name{number}" for number in range(50)], "see `list`"),
    ],
)
def test_an_unknown_name_is_answered_with_what_may_have_been_meant(name: str, known: list[str], offer: str) -> None:
    assert str(UnknownName.of("thing", name, known, "list")) == f"no thing '{name}'; {offer}"
