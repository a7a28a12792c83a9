"""What an import loads, what is public, and that what pyproject.toml promises is there."""

import ast
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

import envhub
import judges
import sandboxes
from envhub.contracts.judge import is_group_judge, is_judge

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OWN_GROUPS = {group: names for group, names in PROJECT["entry-points"].items() if group.startswith("envhub.")}

LOADED = """
import sys
before = set(sys.modules)
{statement}
print(*sorted(set(sys.modules) - before))
"""


def loaded_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter loads for that statement."""
    command = [sys.executable, "-c", LOADED.format(statement=statement)]
    return set(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split())


def foreign(modules: set[str]) -> set[str]:
    """The packages, beyond ours and the standard library, that those modules are of."""
    packages = {module.partition(".")[0] for module in modules} - {"envhub", "judges", "sandboxes"}
    return {package for package in packages - sys.stdlib_module_names if not package.startswith("_")}


def public_imports() -> set[tuple[str, str]]:
    """Name and home of what envhub/__init__.py imports for type checkers."""
    (guarded,) = [node for node in ast.parse(Path(envhub.__file__).read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in guarded.body if isinstance(node, ast.ImportFrom)]
    return {(alias.name, str(node.module)) for node in imports for alias in node.names}


def test_import_envhub_loads_none_of_the_heavy_packages():
    assert not foreign(loaded_by("import envhub")) & {"fastapi", "sqlalchemy", "grpc", "ray", "gymnasium", "torch"}


def test_import_envhub_loads_no_room():
    assert {module for module in loaded_by("import envhub") if module.startswith("envhub")} == {"envhub"}


def test_registering_an_environment_loads_no_room_of_the_runtime():
    loaded = foreign(loaded_by("from envhub import Environment, Task, environment, make"))
    assert loaded == {"numpy"}


def test_feed_client_loads_numpy_protobuf_and_grpc_alone():
    of_grpc = {"typing_extensions", "cython_runtime"}
    where_it_finds_them = {"grpc_tools", "grpc_health", "grpc_reflection"}
    assert foreign(loaded_by("import envhub.feed.client")) - of_grpc - where_it_finds_them == {
        "numpy",
        "google",
        "grpc",
    }


def test_a_judge_alone_loads_only_contracts_and_errors():
    loaded = loaded_by("from judges import number")
    rooms = {".".join(module.split(".")[:2]) for module in loaded if module.startswith("envhub.")}
    assert rooms == {"envhub.contracts", "envhub.errors"}
    assert not foreign(loaded)


def test_public_names_are_listed_alike_three_times():
    assert public_imports() == set(envhub._HOMES.items())
    assert sorted(envhub._HOMES) == envhub.__all__ == dir(envhub)


@pytest.mark.parametrize("name", envhub.__all__)
def test_public_name_resolves(name: str):
    assert getattr(envhub, name) is not None


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = envhub.nothing


@pytest.mark.parametrize("package", [envhub, judges, sandboxes])
def test_package_is_imported_from_our_tree(package):
    assert Path(package.__file__).is_relative_to(ROOT)


@pytest.mark.parametrize("group", OWN_GROUPS)
def test_installed_entry_points_are_those_of_the_project(group: str):
    installed = {point.name: point.value for point in entry_points(group=group) if _is_ours(point)}
    assert installed == OWN_GROUPS[group]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in OWN_GROUPS.items() for name in names])
def test_entry_point_loads(group: str, name: str):
    (point,) = [point for point in entry_points(group=group, name=name) if _is_ours(point)]
    if name == "transformers":
        pytest.importorskip("torch", reason="the torch extra is not installed")
    thing = point.load()
    assert callable(thing) or is_judge(thing) or is_group_judge(thing)


def _is_ours(point: EntryPoint) -> bool:
    return point.dist is not None and point.dist.name == PROJECT["name"]
