"""What can't work is refused before anything starts: exit code 2, one line, no traceback, no run in the database."""

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from envhub import cli
from envhub.errors import EnvhubError, UsageError
from tests.cli.command import WORLDS, Command

ARITHMETIC = "run envhub/arithmetic-v0 --engine scripted"

REFUSED = {
    "run --engine scripted": "no environment is named; `envhub env list` shows them",
    "run envhub/arithmetik-v0": "no environment 'envhub/arithmetik-v0'; did you mean envhub/arithmetic-v0",
    "run envhub/arithmetic-v0 --engine script": "no engine 'script'; did you mean scripted?",
    f"{ARITHMETIC} --policy judge": "--policy 'judge' must read ID=NAME[:WHERE]",
    f"{ARITHMETIC} --policy policy=scripted": "not 'policy', which is the one under training",
    f"{ARITHMETIC} --policy judge=script": "no engine 'script'; did you mean scripted?",
    "run envhub/arithmetic-v0 --engine scripted,thread=2": "no option of an engine 'thread'; did you mean threads?",
    f"{ARITHMETIC} --judge rubric": "its judge asks policy 'judge', which this run does not have; add it with --policy",
    f"{ARITHMETIC} --group-judge pairwise": "the judge of its groups asks policy 'judge', which this run does not have",
    f"{ARITHMETIC} --max-turns 0": "limit max_turns is 0; it must be positive",
    f"{ARITHMETIC} --max-critical-steps 0": "limit max_critical_steps is 0; it must be positive",
    f"{ARITHMETIC} --judge numbre": "no judge 'numbre'; did you mean number",
    f"{ARITHMETIC} --agent tool_loop": "no agent 'tool_loop'; did you mean tool-loop?",
    f"{ARITHMETIC} --context summarise": "no context strategy 'summarise'; did you mean summary?",
    f"{ARITHMETIC} --agent external": "agent 'external' waits for programs that open rollouts themselves",
    f"{ARITHMETIC} --sandbox bubble": "no sandbox back end 'bubble'; did you mean bubblewrap?",
    f"{ARITHMETIC} --k 0": "k is 0; it must be at least 1",
    f"{ARITHMETIC} --groups 0": "groups is 0; it must be at least 1",
    f"{ARITHMETIC} envhub/arithmetic-v0": "an environment is named twice",
    f"{ARITHMETIC} --max-tokens -5": "max_tokens is -5; it must be at least 1",
    f"{ARITHMETIC} --temperature -1": "temperature is -1.0; it must lie in [0, 100]",
    f"{ARITHMETIC} --max-running 0": "max_running is 0; it must be positive",
    f"{ARITHMETIC} --cap envhub/arithmetik-v0=1": "no environment 'envhub/arithmetik-v0'; did you mean",
    f"{ARITHMETIC} --cap envhub/arithmetic-v0=0": "of environment 'envhub/arithmetic-v0' is 0; it must be at least 1",
    f"{ARITHMETIC} --cap 4": "--cap '4' must read ENVIRONMENT=N",
    f"{ARITHMETIC} --cap a-v0=1 --cap a-v0=2": "--cap names environment 'a-v0' twice",
    f"{ARITHMETIC} --weights some.gguf": "weights are 'some.gguf', but the scripted engine has none",
    "run envhub/arithmetic-v0 --weights absent.gguf": "no weights file 'absent.gguf'",
    "run envhub/arithmetic-v0 --weights text.gguf": "'text.gguf' starts with b'just', a GGUF file with b'GGUF'",
    f"{ARITHMETIC} --feed 8602": "address '8602' must read HOST:PORT",
    f"{ARITHMETIC} --feed 0.0.0.0:0": "feed host '0.0.0.0' can be reached from outside",
    f"{ARITHMETIC} --trainer no-such-program": "no program 'no-such-program' was found",
    f"{ARITHMETIC} --trainer '": "trainer ''' is no command (No closing quotation)",
    f"{ARITHMETIC} --database text.gguf": "database 'text.gguf' failed: file is not a database",
    f"{ARITHMETIC} --database absent/some.db": "make it first",
    "run envhub/delegate-v0 --engine scripted --judge number": "judge 'number' needs a number",
    f"run test/undecided-v0 --engine scripted --load {WORLDS}": "score 'scalar' is nan",
    "run --resume absent": "no database 'envhub.db'",
    "run --resume absent --max-turns 2": "leave out --max-turns",
    "run --resume absent --k 2": "--resume goes on with the job that the run has; leave out --k",
    "run envhub/arithmetic-v0 --resume absent": "leave out the environments",
    "serve envhub/arithmetik-v0": "did you mean envhub/arithmetic-v0",
    "serve --engine scripted --tokens absent": "'absent' can't be read: No such file",
    "serve --engine scripted --cert a.pem": "TLS needs both --cert and --key",
    "serve --engine scripted --rate contol=1": "did you mean control?",
    "serve --engine scripted --rate control=0": "rate control is 0.0; it must be above 0",
    "serve --engine scripted --rate control=many": "--rate 'control=many' must read KIND=N, like control=10",
    "serve --engine scripted --host 0.0.0.0": "host '0.0.0.0' can be reached from outside, which needs a token and TLS",
    "serve --engine scripted --gateway-port 70000": "port 70000 of 127.0.0.1 does not exist",
    "env show envhub/calculater-v0": "did you mean envhub/calculator-v0",
    "env check envhub/calculater-v0": "did you mean envhub/calculator-v0",
    "trace list": "no database 'envhub.db'",
    "trace list --database text.gguf": "file is not a database",
    "trace list --status done": "no status 'done'; registered: cancelled, completed, failed, truncated",
    "trace show some": "no database 'envhub.db'",
    "verify": "no database 'envhub.db'",
}


@pytest.mark.parametrize("arguments", REFUSED)
def test_refused(envhub: Command, tmp_path: Path, arguments: str):
    (tmp_path / "text.gguf").write_text("just text, and quite some of it")
    answer = envhub(*arguments.split())
    assert answer.code == 2
    assert REFUSED[arguments] in answer.err
    assert answer.err.count("error: ") == answer.err.count("\n") == 1
    assert not answer.out
    assert not runs(tmp_path / "envhub.db")


def runs(database: Path) -> int:
    """How many runs a database holds that may not be there."""
    if not database.exists():
        return 0
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute("SELECT count(*) FROM runs").fetchone()[0]


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "arguments",
    [
        (*ARITHMETIC.split(), "--feed", "127.0.0.1:{port}"),
        ("serve", "--engine", "scripted", "--gateway-port", "0", "--dashboard-port", "0", "--feed-port", "{port}"),
        ("serve", "--engine", "scripted", "--gateway-port", "{port}", "--dashboard-port", "0", "--feed-port", "0"),
        ("serve", "--engine", "scripted", "--gateway-port", "0", "--dashboard-port", "{port}", "--feed-port", "0"),
    ],
)
def test_a_port_in_use_is_refused(envhub: Command, tmp_path: Path, port_in_use: int, arguments: tuple[str, ...]):
    answer = envhub(*[argument.format(port=port_in_use) for argument in arguments])
    assert answer.code == 2
    assert str(port_in_use) in answer.err
    assert "in use; choose another" in answer.err.replace(")", "")
    assert not runs(tmp_path / "envhub.db")


def test_a_run_id_is_used_once(envhub: Command):
    assert envhub(*ARITHMETIC.split(), "--run-id", "mine").code == 0
    answer = envhub(*ARITHMETIC.split(), "--run-id", "mine")
    assert answer.code == 2
    assert "there is a run 'mine' already; choose another id, or --resume mine" in answer.err


def test_a_run_goes_on_with_its_own_model_only(envhub: Command):
    assert envhub(*ARITHMETIC.split(), "--run-id", "mine").code == 0
    answer = envhub("run", "--resume", "mine")
    assert answer.code == 2
    assert "run 'mine' samples from another model; go on with it by --engine scripted" in answer.err


def test_a_run_that_is_not_there_cannot_go_on(envhub: Command):
    assert envhub(*ARITHMETIC.split()).code == 0
    answer = envhub("run", "--resume", "absent", "--engine", "scripted")
    assert answer.code == 2
    assert "no run 'absent' in this database" in answer.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trace list --run absent", "no run 'absent'; registered: mine"),
        ("trace list --cursor absent", "cursor 'absent' is of no page"),
        ("trace list --limit 0", "limit is 0; a page has 1 to 1000 rollouts"),
        ("trace show absent", "no rollout 'absent' in this database; `envhub trace list` shows them"),
        ("trace export absent", "no run 'absent'; registered: mine"),
        ("trace export mine --file absent/rows", "can't write to 'absent/rows': No such file or directory"),
        ("verify --run absent", "no run 'absent'; registered: mine"),
    ],
)
def test_what_a_database_does_not_hold_is_refused(envhub: Command, arguments: str, message: str):
    assert envhub(*ARITHMETIC.split(), "--run-id", "mine").code == 0
    answer = envhub(*arguments.split())
    assert answer.code == 2
    assert message in answer.err
    assert not answer.out


@pytest.mark.parametrize("arguments", ["run --k many", "nonsense", "env", "run --no-such-option"])
def test_what_the_command_does_not_know_is_refused(envhub: Command, arguments: str):
    answer = envhub(*arguments.split())
    assert answer.code == 2


def test_an_error_inside_task_groups_is_one_line(envhub: Command, monkeypatch: pytest.MonkeyPatch):
    def fail(*errors: Exception) -> None:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", errors)])

    monkeypatch.setattr(cli, "app", lambda: fail(UsageError("that can't work"), EnvhubError("so it ended")))
    answer = envhub("run")
    assert (answer.code, answer.err) == (2, "error: that can't work\nerror: so it ended\n")
    monkeypatch.setattr(cli, "app", lambda: fail(EnvhubError("it broke")))
    answer = envhub("run")
    assert (answer.code, answer.err) == (1, "error: it broke\n")


def test_a_mistake_of_ours_keeps_its_traceback(envhub: Command, monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise ExceptionGroup("group", [UsageError("that can't work"), ZeroDivisionError()])

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ExceptionGroup) as caught:
        envhub("run")
    assert caught.group_contains(ZeroDivisionError)
