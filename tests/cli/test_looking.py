"""`envhub audit`, `profile`, `plot`, `top` and `verify --new`: looking at a run that was played."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from envhub.cli.curves import sparkline
from tests.cli.command import Command


@pytest.fixture
def played(envhub: Command) -> Command:
    """The command, after a run `mine` of 3 groups of 4."""
    assert envhub("run", "envhub/arithmetic-v0", "--engine", "scripted", "-n", "3", "--run-id", "mine").code == 0
    return envhub


def test_an_audit_says_how_much_it_looked_at(played: Command):
    answer = played("audit", "mine", "--json")
    assert (answer.json["rollouts"], answer.json["sampled"]) == (12, 12)
    assert all(finding["page"].startswith("/") for finding in answer.json["findings"])
    assert "12 rollouts" in played("audit", "mine").out


def test_a_profile_accounts_for_the_time_and_writes_a_trace(played: Command):
    answer = played("profile", "mine", "--trace", "phases.json", "--json")
    assert answer.json["rollouts"] == 12
    assert sum(line["share"] for line in answer.json["lines"]) == pytest.approx(1.0)
    events = json.loads(Path("phases.json").read_text())["traceEvents"]
    assert {event["name"] for event in events if event["ph"] == "X"} >= {"engine policy"}
    assert "12 rollouts" in played("profile", "mine").out


def test_a_trace_that_can_not_be_written_is_refused(played: Command):
    answer = played("profile", "mine", "--trace", "none/phases.json")
    assert answer.code == 2
    assert "can't write to 'none/phases.json'" in answer.err


def test_curves_are_drawn_in_the_terminal_and_into_a_picture(played: Command):
    assert "mean reward" in played("plot", "mine", "--histogram", "turns").out
    assert played("plot", "mine", "--png", "curves.png").code == 0
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")


def test_top_looks_once(played: Command):
    assert played("top", "--json").json["members"] == {"acked": 12}
    assert "12 acked" in played("top", "--once").out


def test_top_says_that_no_dashboard_answers(played: Command):
    answer = played("top", "--once", "--url", "http://127.0.0.1:9")
    assert answer.code == 2
    assert "no dashboard answers at 'http://127.0.0.1:9/api/overview" in answer.err


@pytest.mark.parametrize("command", ["audit", "profile", "plot"])
def test_an_unknown_run_is_refused_by_name(played: Command, command: str):
    answer = played(command, "mein")
    assert answer.code == 2
    assert "no run 'mein'; did you mean mine?" in answer.err


def test_only_what_is_new_is_verified_after_a_verify(played: Command):
    assert played("verify", "--json").json["rollouts"] == 12
    assert played("verify", "--new", "--json").json["rollouts"] == 0
    assert played("run", "envhub/arithmetic-v0", "--engine", "scripted", "--run-id", "more").code == 0
    assert played("verify", "--new", "--json").json["rollouts"] == 4
    assert played("verify", "--json").json["rollouts"] == 16


def test_notes_of_another_database_are_not_believed(played: Command):
    assert played("verify").code == 0
    with contextlib.closing(sqlite3.connect("envhub.db")) as connection, connection:
        connection.execute("UPDATE runs SET started_at = started_at + 1")
    assert played("verify", "--new", "--json").json["rollouts"] == 12


def test_a_curve_is_a_line_of_blocks_and_holes_are_spaces():
    assert sparkline([0.0, float("nan"), 1.0]) == "▁ █"
    assert sparkline([]) == ""
    assert sparkline([2.0, 2.0]) == "▁▁"
    assert len(sparkline(range(10_000))) == 60
