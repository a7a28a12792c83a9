"""`envhub run`: the table, the numbers, the exit code, and what to type next."""

import json

import pytest

from tests.cli.command import WORLDS, Command

ARITHMETIC = ("envhub/arithmetic-v0", "--engine", "scripted")


def test_a_run_ends_with_table_conservation_and_commands_to_type(program: Command):
    answer = program("run", *ARITHMETIC, "envhub/delegate-v0", "--groups", "3", "--run-id", "first")
    assert answer.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in answer.out.splitlines() if line.strip()}
    assert rows["environment"] == ["groups", "rollouts", "reward", "tokens", "tokens/s", "outcomes"]
    assert rows["envhub/arithmetic-v0"][:2] == rows["envhub/delegate-v0"][:2] == ["3", "12"]
    assert rows["envhub/arithmetic-v0"][-2:] == ["12", "completed"]
    assert rows["all"][:2] == ["6", "24"]
    assert "members   24 submitted = 24 acked + 0 failed + 0 cancelled + 0 dropped" in answer.out
    assert "database  envhub.db (run first)" in answer.out
    assert "loop lag  p50 " in answer.out
    commands = answer.out.partition("next:\n")[2].splitlines()
    assert [line.split("  ")[1] for line in commands] == [
        "envhub trace list",
        "envhub verify",
        "envhub serve --engine scripted",
    ]


def test_nothing_but_progress_is_on_stderr(program: Command):
    answer = program("run", *ARITHMETIC, "--run-id", "first")
    assert answer.err == "run first, in envhub.db\n"


def test_the_commands_to_type_next_work(envhub: Command):
    answer = envhub("run", *ARITHMETIC, "--database", "some where.db")
    commands = answer.out.partition("next:\n")[2].splitlines()
    assert "--database 'some where.db'" in commands[0]
    assert envhub("trace", "list", "--database", "some where.db").code == 0
    assert envhub("verify", "--database", "some where.db").code == 0


def test_json_is_the_only_thing_on_stdout(program: Command):
    answer = program("run", *ARITHMETIC, "--groups", "2", "--k", "3", "--run-id", "first", "--json")
    assert answer.code == 0
    report = answer.json
    assert report["run_id"] == "first"
    assert report["members"] == {"submitted": 6, "acked": 6}
    assert report["conserved"] is report["drained"] is True
    assert report["loop_lag"]["p50_s"] <= report["loop_lag"]["p99_s"] <= report["loop_lag"]["max_s"]
    line = report["environments"]["envhub/arithmetic-v0"]
    assert (line["groups"], line["rollouts"]) == (2, 6)
    assert line["outcomes"] == {"completed": 6}
    assert 0.0 <= line["mean_reward"] <= 1.0
    assert line["tokens"] > 6


def test_a_run_with_failures_says_why_and_exits_with_1(envhub: Command):
    answer = envhub("run", "test/fastidious-v0", "--load", WORLDS, "--engine", "scripted", "-n", "5")
    assert answer.code == 1
    assert "failed (judge)" in answer.out
    assert "judge: ConnectionError: the judge is down" in answer.out
    report = envhub("run", "test/fastidious-v0", "--load", WORLDS, "--engine", "scripted", "-n", "5", "--json")
    assert report.code == 1
    (failures,) = report.json["failures"].values()
    assert report.json["members"] == {"submitted": 20, "acked": 20 - failures, "failed": failures}


def test_the_same_seed_plays_the_same_tasks_and_tokens(envhub: Command):
    def sampled(run_id: str, seed: str) -> list[object]:
        assert envhub("run", *ARITHMETIC, "-n", "3", "--seed", seed, "--run-id", run_id).code == 0
        rows = [json.loads(line) for line in envhub("trace", "export", run_id).out.splitlines()]
        return sorted((row["group_id"].removeprefix(run_id), row["member"], row["task_id"], row["ids"]) for row in rows)

    assert sampled("one", "7") == sampled("two", "7") != sampled("three", "8")


def test_children_are_counted_apart(envhub: Command):
    report = envhub("run", "test/family-v0", "--load", WORLDS, "--engine", "scripted", "--k", "2", "--json").json
    line = report["environments"]["test/family-v0"]
    assert (line["rollouts"], line["children"]) == (2, 4)
    assert line["outcomes"] == {"completed": 2}


@pytest.mark.parametrize(
    ("limits", "reason", "turns"),
    [((), "turns", 16), (("--max-turns", "3"), "turns", 3), (("--max-critical-steps", "2"), "budget", 2)],
)
def test_a_rollout_ends_at_the_limits_that_it_was_given(
    envhub: Command, limits: tuple[str, ...], reason: str, turns: int
):
    assert envhub("run", "test/endless-v0", "--load", WORLDS, "--engine", "scripted", "--k", "1", *limits).code == 0
    (rollout,) = envhub("trace", "list", "--json").json["rollouts"]
    assert (rollout["truncated_by"], rollout["turns"]) == (reason, turns)


def test_environments_that_need_a_sandbox_are_skipped_with_one_line(envhub: Command, without_isolation: None):
    answer = envhub("run", *ARITHMETIC, "envhub/calculator-v0", "--json")
    assert answer.code == 0
    assert list(answer.json["environments"]) == ["envhub/arithmetic-v0"]
    (line,) = [line for line in answer.err.splitlines() if "skipping" in line]
    assert line.startswith("skipping envhub/calculator-v0: it needs a sandbox")
    assert "--sandbox process" in line


def test_a_run_of_which_all_is_skipped_is_refused(envhub: Command, without_isolation: None):
    answer = envhub("run", "envhub/calculator-v0", "--engine", "scripted")
    assert answer.code == 2
    assert "error: envhub/calculator-v0 needs a sandbox" in answer.err
    assert "--sandbox process" in answer.err


def test_a_skipped_environment_runs_in_a_process_when_asked(envhub: Command, without_isolation: None):
    answer = envhub("run", "envhub/calculator-v0", "--engine", "scripted", "--sandbox", "process", "--json")
    assert answer.json["members"] == {"submitted": 4, "acked": 4}


@pytest.mark.parametrize("command", ["run", "serve", "trace", "env", "verify", "doctor", "trace list", "env check"])
def test_help_fits_80_columns_and_exits_with_0(envhub: Command, monkeypatch: pytest.MonkeyPatch, command: str):
    monkeypatch.setenv("COLUMNS", "80")
    answer = envhub(*command.split(), "--help")
    assert answer.code == 0
    assert max(map(len, answer.out.splitlines())) <= 80
    assert "TEXT" not in answer.out


def test_version_is_printed(envhub: Command):
    assert envhub("--version").out.strip().count(".") == 2
