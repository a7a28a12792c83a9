"""Options in a file and in variables: `envhub config show` and `check`, and `--config` of the commands that run."""

import re
import tomllib
from pathlib import Path

import pytest

from tests.cli.command import ROOT, WORLDS, Command

SECRET = "geheim-0815"
RUN = """
environments = ["envhub/arithmetic-v0"]
engine = "scripted"
groups = 3
k = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(RUN)
    return file


def test_a_run_takes_its_options_from_a_file_and_the_command_line_first(envhub: Command, file: Path):
    answer = envhub("run", "--config", str(file), "--json")
    assert answer.json["members"] == {"submitted": 6, "acked": 6}
    answer = envhub("run", "--config", str(file), "-k", "1", "--json")
    assert answer.json["members"] == {"submitted": 3, "acked": 3}


def test_a_run_takes_its_options_from_variables(envhub: Command, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_CONFIG", str(file))
    monkeypatch.setenv("ENVHUB_GROUPS", "1")
    assert envhub("run", "--json").json["members"] == {"submitted": 2, "acked": 2}


def test_a_file_may_load_environments_of_your_own(envhub: Command, file: Path):
    file.write_text(f'load = ["{WORLDS}"]\nenvironments = ["test/slow-v0"]\nengine = "scripted"\nk = 1\n')
    assert envhub("config", "check", str(file)).code == 0
    assert envhub("run", "--config", str(file), "--json").json["members"] == {"submitted": 1, "acked": 1}


def test_a_run_that_goes_on_takes_its_job_from_the_run_and_the_rest_from_the_file(envhub: Command, file: Path):
    assert envhub("run", "--config", str(file), "--run-id", "mine").code == 0
    file.write_text(RUN.replace("k = 2", "k = 7"))
    answer = envhub("run", "--resume", "mine", "--config", str(file), "--json")
    assert answer.code == 0
    assert answer.json["members"] == {"submitted": 6, "acked": 6}


@pytest.mark.parametrize("command", ["run", "serve"])
def test_a_mistake_in_the_file_ends_the_command_before_anything_starts(envhub: Command, file: Path, command: str):
    file.write_text("max_runing = 3")
    answer = envhub(command, "--config", str(file))
    assert answer.code == 2
    assert "no option 'max_runing'; did you mean max_running" in answer.err
    assert not list(file.parent.glob("*.db*"))


@pytest.mark.parametrize("command", ["run", "serve"])
def test_the_file_that_show_prints_says_all_and_changes_nothing(envhub: Command, file: Path, command: str):
    printed = envhub("config", "show", "--for", command)
    assert printed.code == 0
    assert tomllib.loads(printed.out) == {}
    assert "#max_running = 64" in printed.out
    assert '#engine = "embedded"' in printed.out
    said = [line.removeprefix("#") for line in printed.out.splitlines() if re.match(r"#\w+ = \S", line)]
    file.write_text("\n".join(said))
    assert len(tomllib.loads(file.read_text())) > 20
    options = envhub("config", "check", str(file), "--for", command, "--json").json["options"]
    defaults = envhub("config", "check", "/dev/null", "--for", command, "--json").json["options"]
    assert [one["value"] for one in options] == [one["value"] for one in defaults]


def test_what_show_prints_of_a_file_is_that_file(envhub: Command, file: Path):
    shown = envhub("config", "show", str(file)).out
    assert tomllib.loads(shown) == tomllib.loads(RUN)


def test_check_explains_every_option_and_where_it_is_from(envhub: Command, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_MAX_RUNNING", "5")
    answer = envhub("config", "check", str(file), "--json")
    assert answer.code == 0
    assert answer.json["ok"]
    options = {one["option"]: one for one in answer.json["options"]}
    assert options["k"]["value"] == "2"
    assert options["k"]["from"] == str(file)
    assert options["max_running"]["from"] == "ENVHUB_MAX_RUNNING"
    assert options["feed_port"]["from"] == "default"
    assert all(one["does"] for one in options.values())
    table = envhub("config", "check", str(file)).out
    assert all(name in table for name in options)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ('environments = ["envhub/arithmetik-v0"]', "no environment 'envhub/arithmetik-v0'; did you mean"),
        ('engine = "script"', "no engine 'script'; did you mean scripted?"),
        ("max_running = 0", "max_running is 0; it must be positive"),
        ('cert = "server.pem"', "TLS needs both --cert and --key"),
        ('tokens = "absent"', "'absent' can't be read: No such file"),
        ("[rate]\nsubmits = 3", "no kind of --rate 'submits'; did you mean submit"),
        ("groups = 'x'", "groups is 'x'; it must be a whole number"),
    ],
)
def test_check_finds_what_is_wrong(envhub: Command, file: Path, said: str, complaint: str):
    file.write_text(said)
    answer = envhub("config", "check", str(file))
    assert answer.code == 1
    assert complaint in answer.err
    assert "what it does" in answer.out
    found = envhub("config", "check", str(file), "--json").json
    assert not found["ok"]
    assert complaint in found["mistakes"][0]


def test_no_password_is_shown(envhub: Command, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENVHUB_DATABASE", f"postgresql://ana:{SECRET}@db/traces")
    monkeypatch.setenv("ENVHUB_TOKEN", SECRET)
    for command in (("check", str(file)), ("check", str(file), "--json"), ("show", str(file)), ("show",)):
        answer = envhub("config", *command)
        assert "postgresql://ana:***@db/traces" in answer.out
        assert SECRET not in answer.out + answer.err
        assert "ENVHUB_DATABASE" in answer.out
    assert "database" not in tomllib.loads(envhub("config", "show").out)


def test_the_files_of_the_deployment_have_no_mistake(envhub: Command, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    for name in ("manager", "gateway"):
        assert envhub("config", "check", f"deploy/{name}.toml").code == 0
