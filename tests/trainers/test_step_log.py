"""A log of steps agrees with the checkpoint that a trainer goes on from, and is a table to read."""

import json
from pathlib import Path

from envhub.trainers.step_log import StepLog


def test_what_a_kill_undid_is_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    log = StepLog(path)
    for step in range(1, 5):
        log.write({"step": step}, [step])
    again = StepLog(path, steps=2)
    again.write({"step": 3}, [9])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 1, "groups": [1]}, {"step": 2, "groups": [2]}, {"step": 3, "groups": [9]}]


def test_rows_stand_below_the_names_which_come_once(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "steps.jsonl")
    log.lap("waited_s")
    first, second = (log.write({"step": step, "loss": 0.123456}, []).splitlines() for step in (1, 2))
    assert [len(first), len(second)] == [2, 1]
    names, row = first
    assert names.split() == ["step", "loss", "waited_s"]
    assert row.split()[:2] == ["1", "0.123"]
    assert [len(line) for line in (names, row, *second)] == [29] * 3


def test_a_lap_is_told_until_there_is_another_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    log = StepLog(path)
    log.lap("saved_s")
    log.write({}, [])
    log.write({}, [])
    log.lap("saved_s")
    log.write({}, [])
    first, second, third = (json.loads(line)["saved_s"] for line in path.read_text().splitlines())
    assert first == second != third
