"""Options from a command line, variables, a file and defaults: which of them holds, and what is refused."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from envhub.app.configuration import COMMAND_LINE, USUAL, Configuration, Key, Value, configuration
from envhub.errors import UsageError


def key(name: str, kind: type, usual: Value = None, form: str = "") -> Key:
    return Key(name, kind, usual, f"What {name} does.", "Topic", form, f"ENVHUB_{name.upper()}")


KEYS = (
    key("groups", int, 1),
    key("lease", float, 60.0),
    key("engine", str, "embedded"),
    key("database", str, "envhub.db"),
    key("behind_proxy", bool, False),
    key("load", list, []),
    key("cap", list, [], "ENVIRONMENT=N"),
    Key("feed", str, "", "Where trainers come.", "Topic"),  # no variable says it
)


def told(
    tmp_path: Path, toml: str = "", variables: Mapping[str, str] | None = None, **said: Value
) -> tuple[Configuration, str]:
    """What that makes, and the name of the file."""
    file = tmp_path / "envhub.toml"
    file.write_text(toml)
    return configuration(KEYS, said, str(file), variables or {}), str(file)


def of(made: Configuration, name: str) -> tuple[Value, str]:
    setting = made.checked()[name]
    return setting.value, setting.source


def test_the_command_line_comes_before_variables_before_the_file_before_defaults(tmp_path: Path):
    toml, variables = "groups = 2", {"ENVHUB_GROUPS": "3"}
    made, file = told(tmp_path)
    assert of(made, "groups") == (1, USUAL)
    made, _ = told(tmp_path, toml)
    assert of(made, "groups") == (2, file)
    made, _ = told(tmp_path, toml, variables)
    assert of(made, "groups") == (3, "ENVHUB_GROUPS")
    made, _ = told(tmp_path, toml, variables, groups=4)
    assert of(made, "groups") == (4, COMMAND_LINE)


def test_what_is_said_explicitly_holds_even_where_it_is_the_default(tmp_path: Path):
    made, _ = told(tmp_path, "behind_proxy = true", behind_proxy=False)
    assert of(made, "behind_proxy") == (False, COMMAND_LINE)
    made, file = told(tmp_path, "load = []")
    assert of(made, "load") == ([], file)


def test_an_empty_variable_says_nothing(tmp_path: Path):
    made, _ = told(tmp_path, "", {"ENVHUB_GROUPS": "", "ENVHUB_ENGINE_FILE": ""})
    assert of(made, "groups") == (1, USUAL)
    assert of(made, "engine") == ("embedded", USUAL)


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("ENVHUB_GROUPS", "7", "groups", 7),
        ("ENVHUB_LEASE", "2.5", "lease", 2.5),
        ("ENVHUB_BEHIND_PROXY", "Yes", "behind_proxy", True),
        ("ENVHUB_BEHIND_PROXY", "0", "behind_proxy", False),
        ("ENVHUB_LOAD", "one.py 'my tasks/two.py'", "load", ["one.py", "my tasks/two.py"]),
    ],
)
def test_a_variable_is_read_as_the_kind_of_its_option(
    tmp_path: Path, variable: str, text: str, name: str, value: Value
):
    made, _ = told(tmp_path, "", {variable: text})
    assert of(made, name) == (value, variable)


def test_a_variable_may_name_a_file_with_the_value(tmp_path: Path):
    secret = tmp_path / "database"
    secret.write_text("postgresql://ana:pw@db/traces\n")
    made, _ = told(tmp_path, "", {"ENVHUB_DATABASE_FILE": str(secret)})
    assert of(made, "database") == ("postgresql://ana:pw@db/traces", "ENVHUB_DATABASE_FILE")
    assert made.checked()["database"].shown == "postgresql://ana:***@db/traces"


def test_a_file_may_write_pairs_as_a_table_and_whole_numbers_for_others(tmp_path: Path):
    made, file = told(tmp_path, 'lease = 5\n[cap]\n"demo/sums-v0" = 3\n')
    assert of(made, "cap") == (["demo/sums-v0=3"], file)
    assert of(made, "lease") == (5.0, file)
    assert isinstance(made.checked()["lease"].value, float)


@pytest.mark.parametrize(
    ("toml", "complaint"),
    [
        ("grups = 3", "no option 'grups'; did you mean groups"),
        ('groups = "3"', "groups is '3'; it must be a whole number"),
        ("groups = true", "groups is True; it must be a whole number"),
        ("groups = 2.5", "groups is 2.5; it must be a whole number"),
        ("behind_proxy = 1", "behind_proxy is 1; it must be true or false"),
        ('load = "one.py"', "load is 'one.py'; it must be a list of texts"),
        ("load = [1]", r"load is \[1\]; it must be a list of texts"),
        ("load = {a = 1}", "load is {'a': 1}; it must be a list of texts"),
        ("cap = 3", "cap is 3; it must be a list of texts, or a table of ENVIRONMENT=N"),
        (
            'database = "postgresql://ana:pw@db/traces"',
            "database has a password in it.*PGPASSWORD.*ENVHUB_DATABASE_FILE",
        ),
        ('database = "postgresql://db/traces?user=ana&password=pw"', "database has a password in it"),
        ("groups =", "is no TOML: .*`envhub config show` prints one"),
    ],
)
def test_what_a_file_says_wrongly_is_refused_with_the_way_out(tmp_path: Path, toml: str, complaint: str):
    with pytest.raises(UsageError, match=complaint) as refused:
        told(tmp_path, toml)[0].checked()
    assert "envhub.toml" in str(refused.value)
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"ENVHUB_GROUPS": "many"}, "in ENVHUB_GROUPS: groups is 'many'; it must be a whole number"),
        ({"ENVHUB_BEHIND_PROXY": "perhaps"}, "behind_proxy is 'perhaps'; it must be true or false"),
        ({"ENVHUB_LOAD": "'open"}, "load is .* it must be a list of texts"),
        ({"ENVHUB_GROUPS": "postgresql://ana:pw@db/traces"}, r"groups is 'postgresql://ana:\*\*\*@db/traces'"),
        ({"ENVHUB_ENGINE": "scripted", "ENVHUB_ENGINE_FILE": "e"}, "ENVHUB_ENGINE and ENVHUB_ENGINE_FILE both say"),
        ({"ENVHUB_ENGINE_FILE": "absent"}, "in ENVHUB_ENGINE_FILE: 'absent' can't be read: No such file"),
    ],
)
def test_what_a_variable_says_wrongly_is_refused(tmp_path: Path, variables: dict[str, str], complaint: str):
    with pytest.raises(UsageError, match=complaint) as refused:
        told(tmp_path, "", variables)[0].checked()
    assert "pw" not in str(refused.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    made, _ = told(tmp_path, "grups = 3\nlease = true", {"ENVHUB_GROUPS": "many"})
    assert len(made.mistakes) == 3


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None):
    file = tmp_path / "other.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"other\.toml' can't be read: "):
        configuration(KEYS, {}, str(file), {})


def test_an_option_that_has_no_variable_takes_none(tmp_path: Path):
    made, _ = told(tmp_path, "", {"ENVHUB_FEED": "host:1"})
    assert of(made, "feed") == ("", USUAL)
