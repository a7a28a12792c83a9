"""`--load`: environments of a user's own get their names from a file or a module."""

from pathlib import Path

import pytest

from tests.cli.command import ROOT, WORLDS, Command


def test_environments_of_a_file_are_listed_shown_and_checked(envhub: Command):
    listed = envhub("env", "list", "--load", WORLDS, "--json")
    assert "test/slow-v0" in [environment["id"] for environment in listed.json]
    assert "What is 0 + 1?" in envhub("env", "show", "test/slow-v0", "--load", WORLDS).out
    assert envhub("env", "check", "test/fastidious-v0", "--load", WORLDS).code == 1


def test_example_of_the_readme_runs(program: Command):
    example = str(ROOT / "docs" / "examples" / "sums.py")
    answer = program("run", "demo/sums-v0", "--load", example, "--engine", "scripted", "--json")
    assert answer.code == 0
    assert answer.json["members"] == {"submitted": 4, "acked": 4}


def test_a_module_is_found_from_the_current_directory(program: Command, tmp_path: Path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "worlds.py").write_text(Path(WORLDS).read_text())
    assert program("env", "show", "test/slow-v0", "--load", "mine.worlds").code == 0


def test_a_file_may_import_its_neighbours_and_be_named_twice(envhub: Command, tmp_path: Path):
    directory = tmp_path / "elsewhere"
    directory.mkdir()
    (directory / "tasks_of_mine.py").write_text("NUMBER = 3\n")
    (directory / "with_neighbour.py").write_text("from tasks_of_mine import NUMBER\n")
    file = "elsewhere/with_neighbour.py"
    assert envhub("env", "list", "--load", file, "--load", file).code == 0


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("broken.py", "import envhub\n\nenvhub.nothing\n", "has no attribute 'nothing' (broken.py, line 3)"),
        ("broken.py", "def f(:\n", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("broken.py", "import absent_package\n", "No module named 'absent_package' (broken.py, line 1)"),
        (
            "unnamed.py",
            "import envhub\n@envhub.environment('sums', tasks=[])\ndef sums(): ...\n",
            "environment id 'sums' must read [namespace/]name-vN, like demo/sums-v0 (unnamed.py, line 2)",
        ),
        ("json.py", "", "another module is called 'json'; rename the file"),
    ],
)
def test_a_file_that_fails_to_import_is_refused(envhub: Command, tmp_path: Path, name: str, source: str, message: str):
    (tmp_path / name).write_text(source)
    answer = envhub("env", "list", "--load", name)
    assert answer.code == 2
    assert f"error: can't load '{name}': " in answer.err
    assert message in answer.err
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("source", "message"),
    [("absent.py", "there is no such file"), ("absent_module", "ModuleNotFoundError: No module named 'absent_module'")],
)
def test_what_is_not_there_is_refused(envhub: Command, source: str, message: str):
    answer = envhub("run", "test/slow-v0", "--load", source)
    assert answer.code == 2
    assert answer.err.startswith(f"error: can't load '{source}': {message}")
