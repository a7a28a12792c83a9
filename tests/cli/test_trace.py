"""`envhub trace`, `verify`, `env` and `doctor`: what was recorded, and what is there."""

import json
import os
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.command import PROGRAM, WORLDS, Command


@pytest.fixture
def played(envhub: Command) -> Command:
    """The command, after a run `mine` of 3 groups of 4."""
    assert envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", "-n", "3", "--run-id", "mine").code == 0
    return envhub


def test_pages_follow_each_other_by_their_cursors(played: Command):
    pages: list[list[str]] = []
    cursor = ""
    while cursor or not pages:
        page = played("trace", "list", "--limit", "5", "--cursor", cursor, "--json").json
        assert page["total"] == 12
        pages.append([rollout["rollout_id"] for rollout in page["rollouts"]])
        cursor = page["next_cursor"]
    assert [len(page) for page in pages] == [5, 5, 2]
    assert len({rollout for page in pages for rollout in page}) == 12


def test_a_page_names_the_next_one_on_the_side(played: Command):
    first = played("trace", "list", "--limit", "5")
    cursor = first.err.strip().rpartition(" ")[2]
    assert first.err.startswith("5 of 12; the next page: --cursor ")
    second = played("trace", "list", "--limit", "5", "--cursor", cursor)
    assert not {line.split()[0] for line in first.out.splitlines()[1:]} & set(second.out.split())


def test_a_list_is_filtered(played: Command):
    assert played("run", "test/fastidious-v0", "--load", WORLDS, "--engine", "scripted", "-n", "5").code == 1

    def total(*filters: str) -> int:
        return played("trace", "list", *filters, "--json").json["total"]

    assert total("--run", "mine") == total("--environment", "envhub/arithmetic-v0") == 12
    assert total("--status", "completed") + total("--status", "failed") == total() == 32
    empty = played("trace", "list", "--status", "cancelled")
    assert (empty.code, empty.out, empty.err) == (0, "", "no rollout matches\n")


def test_a_failed_rollout_shows_its_boundary_and_its_message(played: Command):
    played("run", "test/fastidious-v0", "--load", WORLDS, "--engine", "scripted", "-n", "5")
    listed = played("trace", "list", "--status", "failed").out.splitlines()[1]
    assert listed.endswith("failed (judge)")
    shown = played("trace", "show", listed.split()[0]).out
    assert "failed (judge), reward –" in shown
    assert "ConnectionError: the judge is down" in shown


def test_show_tells_what_was_said_and_what_it_was_worth(played: Command):
    answer = played("trace", "show", "mine-0-0-0", "--tokens")
    lines = answer.out.splitlines()
    assert lines[0].startswith("mine-0-0-0  envhub/arithmetic-v0, task ")
    assert [line.split()[0] for line in lines[1:5]] == ["user", "assistant", "user", "assistant"]
    assert "sampled by policy version 0; stop" in answer.out
    assert lines[-2].startswith("completed, reward ")
    assert ":-" in lines[-3]  # ID:LOGPROB


def test_show_in_json_has_messages_and_rows(played: Command):
    shown = played("trace", "show", "mine-0-0-0", "--json").json
    assert shown["status"] == "completed"
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant", "user", "assistant"]
    (row,) = shown["rows"]
    assert len(row["ids"]) == len(row["logprobs"]) == len(row["sampled"]) == len(row["trainable"])


def test_show_lists_children_and_names_the_parent(envhub: Command):
    family = ("run", "test/family-v0", "--load", WORLDS, "--engine", "scripted", "--k", "1", "--run-id", "mine")
    assert envhub(*family).code == 0
    parent = envhub("trace", "show", "mine-0-0-0").out
    assert [line.split()[1] for line in parent.splitlines() if " child " in line] == ["mine-0-0-0.0", "mine-0-0-0.1"]
    assert "test/fastidious-v0" in envhub("trace", "show", "mine-0-0-0.1").out
    assert "started by mine-0-0-0" in envhub("trace", "show", "mine-0-0-0.1").out
    assert envhub("trace", "show", "mine-0-0-0", "--json").json["children"] == ["mine-0-0-0.0", "mine-0-0-0.1"]


def test_exported_rows_are_whole_and_exact(played: Command, tmp_path: Path):
    assert played("trace", "export", "mine", "--file", "rows.jsonl").err == "12 rows of run mine\n"
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    for row in rows:
        logprobs = np.array(row["logprobs"], np.float32)
        sampled = np.array(row["sampled"], bool)
        assert len(row["ids"]) == len(logprobs) == len(sampled) == len(row["trainable"])
        assert (logprobs[~sampled] == 0).all()
        assert (logprobs[sampled] < 0).all()
        assert row["reward"] in (0.0, 1.0)
        assert row["trainable"] == row["sampled"]
        assert [float(str(value)) for value in logprobs] == row["logprobs"]  # nothing was rounded


def test_export_goes_to_a_pipe_that_may_close_early(played: Command, tmp_path: Path):
    export = [PROGRAM, "trace", "export", "mine"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(export, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writing)
    assert "Traceback" not in done.stderr


def test_verify_says_how_much_it_checked_and_finds_nothing(played: Command):
    answer = played("verify")
    assert answer.code == 0
    assert "1 run, 12 rollouts, 12 rows, 24 spans, 12 turns," in answer.out
    assert answer.out.rstrip().endswith("found    nothing")
    report = played("verify", "--run", "mine", "--json")
    assert (report.code, report.json["ok"], report.json["rows"]) == (0, True, 12)


@pytest.mark.parametrize(
    ("corruption", "invariant"),
    [
        ("UPDATE members SET state = 'failed' WHERE member = 1", "invariant 4"),
        ("UPDATE runs SET submitted = 13", "invariant 4"),
        ("DELETE FROM events WHERE kind LIKE '%nded' AND rollout_id = 'mine-0-0-0'", "mine-0"),
    ],
)
def test_verify_finds_what_was_corrupted(played: Command, tmp_path: Path, corruption: str, invariant: str):
    connection = sqlite3.connect(tmp_path / "envhub.db")
    with connection:
        assert connection.execute(corruption).rowcount
    connection.close()
    answer = played("verify")
    assert answer.code == 1
    assert invariant in answer.out
    report = played("verify", "--json")
    assert report.code == 1
    assert report.json["findings"]


def test_registered_environments_are_listed(envhub: Command):
    listed = envhub("env", "list")
    assert listed.code == 0
    ids = [line.split()[0] for line in listed.out.splitlines()[1:]]
    assert [id for id in ids if id.startswith("envhub/")] == [  # other tests of this process may have registered theirs
        "envhub/arithmetic-v0",
        "envhub/bulk-download-v0",
        "envhub/calculator-v0",
        "envhub/deep-search-v0",
        "envhub/delegate-v0",
        "envhub/fix-test-v0",
        "envhub/long-documents-v0",
        "envhub/swarm-sums-v0",
        "envhub/wide-search-v0",
    ]
    facts = {environment["id"]: environment for environment in envhub("env", "list", "--json").json}
    assert facts["envhub/calculator-v0"]["needs_sandbox"] is True
    assert facts["envhub/arithmetic-v0"]["tasks"] == 99


def test_an_environment_is_shown_with_its_tools(envhub: Command):
    shown = envhub("env", "show", "envhub/calculator-v0")
    assert "tool   python: Run Python code" in shown.out
    facts = envhub("env", "show", "envhub/calculator-v0", "--json").json
    assert facts["tools"][0]["parameters"]["required"] == ["code"]
    assert facts["first_task"]["prompt"][0]["role"] == "user"


def test_an_environment_is_checked(envhub: Command):
    checked = envhub("env", "check", "envhub/arithmetic-v0")
    assert checked.code == 0
    firsts = {line.split()[0] for line in checked.out.splitlines() if line.strip()}
    assert firsts == {"contract", "certificate", "ok", "–"}  # a cheat that needs a tool does not apply to sums
    report = envhub("env", "check", "test/undecided-v0", "--load", WORLDS, "--json")
    assert report.code == 1
    assert report.json["ok"] is False
    assert "score 'scalar' is nan" in str(report.json["checks"])


def test_doctor_names_what_works_and_what_to_install(envhub: Command):
    named = {finding["what"]: finding for finding in envhub("doctor", "--json").json}
    assert {"machine", "sandbox bubblewrap", "sandbox process", "embedded engine", "dashboard page"} <= set(named)
    assert named["sandbox process"]["works"] is True
    assert "no isolation" in named["sandbox process"]["detail"]
    assert envhub("doctor").code == 0
