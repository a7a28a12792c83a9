"""`envhub store`: what a database holds, and the removal of what is old or unused."""

import errno
import time
from pathlib import Path

import pytest

from envhub.cli.stores import UNITS, size, span
from envhub.errors import UsageError
from envhub.store.payloads import packing, register
from envhub.store.payloads.local import LocalObjects
from tests.cli.command import Command

RUN = ("run", "envhub/arithmetic-v0", "--engine", "scripted", "-n", "2", "--k", "2")


@pytest.fixture
def stored(envhub: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, after runs `one` and `two` with every payload in the folder `payloads`."""
    monkeypatch.setattr(packing, "LARGE_BYTES", 0)
    for run_id in ("one", "two"):
        assert envhub(*RUN, "--run-id", run_id, "--payloads", "payloads").code == 0
    return envhub


def files(folder: str = "payloads") -> int:
    return sum(path.is_file() for path in Path(folder).rglob("*"))


def test_info_says_what_lies_where(stored: Command) -> None:
    found = stored("store", "info", "--json").json
    assert (found["revision"], found["runs"], found["rollouts"]) == ("0004", 2, 8)
    assert found["payloads"]["count"] == files() > 20
    assert found["place"].startswith(str(Path("payloads").absolute()))
    assert [run["run_id"] for run in found["run_list"]] == ["one", "two"]
    shown = stored("store", "info").out
    assert "2 runs, 8 rollouts" in shown
    assert "4 submitted = 4 acked" in shown


def test_old_runs_are_shown_then_pruned_and_their_payloads_collected(
    stored: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register, "clock", lambda connection: time.time() + 2 * UNITS["d"])  # the day after tomorrow
    before = files()
    answer = stored("store", "prune", "--run", "one", "--run", "two")
    assert "nothing was removed; --apply does it" in answer.err
    assert "no: the log ends with it" in " ".join(answer.out.split())
    assert stored("store", "info", "--json").json["runs"] == 2
    assert stored("store", "prune", "--older-than", "1h", "--apply").err.strip() == "no run is as old"
    assert stored("store", "prune", "--run", "one", "--run", "two", "--apply").code == 0
    assert [run["run_id"] for run in stored("store", "info", "--json").json["run_list"]] == ["two"]
    assert "nothing was removed" in stored("store", "gc").err
    assert files() == before
    removed = stored("store", "gc", "--apply", "--json").json
    assert removed["payloads"]["count"] == before - files() > 10
    assert stored("verify", "--run", "two").code == 0
    assert stored("trace", "show", "two-0-0-0").code == 0


def test_a_missing_payload_is_named(stored: Command) -> None:
    lost = next(path for path in Path("payloads").rglob("*") if path.is_file())
    lost.unlink()
    answer = stored("store", "gc")
    assert answer.code == 1
    assert f"missing  {lost.name}, which a run uses" in answer.out


def test_moved_payloads_are_read_where_they_are(stored: Command) -> None:
    assert "the database says that they are in moved" in stored("store", "move", "moved").err
    assert files("moved") == files()
    for path in Path("payloads").rglob("*"):
        if path.is_file():
            path.unlink()
    assert stored("verify").code == 0
    assert stored(*RUN, "--run-id", "three", "--payloads", "payloads").code == 2
    assert stored(*RUN, "--run-id", "three").code == 0
    assert files() == 0


def test_a_run_whose_payloads_find_no_room_ends_and_goes_on(envhub: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LARGE_BYTES", 0)
    room, put = 10, LocalObjects.put

    def put_while_there_is_room(self: LocalObjects, name: str, data: bytes) -> None:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room -= 1
        put(self, name, data)

    monkeypatch.setattr(LocalObjects, "put", put_while_there_is_room)
    answer = envhub(*RUN, "--run-id", "cut", "--payloads", "payloads")
    assert answer.code == 1
    said = " ".join(answer.err.split())
    assert "its disk is full: make room, then go on with the run" in said
    assert "payloads" in said
    room = 1_000
    assert envhub("run", "--resume", "cut", "--engine", "scripted").code == 0
    assert "4 submitted = 4 acked" in envhub("store", "info").out
    assert envhub("verify").code == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["info"], "no database 'envhub.db'"),
        (["prune"], "say which runs: --older-than TIME, or --run RUN"),
        (["prune", "--older-than", "1d", "--run", "one"], "say which runs"),
        (["prune", "--older-than", "soon"], "'soon' is no span of time; give a number and m, h, d or w, like 12h"),
        (["gc", "--database", "mysql://x"], "is of mysql"),
    ],
)
def test_what_cannot_be_is_refused(envhub: Command, arguments: list[str], why: str) -> None:
    answer = envhub("store", *arguments)
    assert answer.code == 2
    assert why in " ".join(answer.err.split())


def test_a_run_that_is_not_there_is_told_from_those_that_are(envhub: Command) -> None:
    assert envhub(*RUN, "--run-id", "one").code == 0
    answer = envhub("store", "prune", "--run", "uno")
    assert answer.code == 2
    assert "no run 'uno'" in answer.err
    assert "one" in answer.err
    assert envhub("store", "move", "elsewhere").code == 2  # it has none


def test_a_migrated_database_says_its_revision(envhub: Command) -> None:
    assert envhub(*RUN, "--run-id", "one").code == 0
    assert "envhub.db is of revision 0004" in envhub("store", "migrate").err


@pytest.mark.parametrize(("given", "seconds"), [("90m", 5_400.0), ("12h", 43_200.0), ("30d", 2_592_000.0)])
def test_spans_of_time_are_read(given: str, seconds: float) -> None:
    assert span(given) == seconds
    with pytest.raises(UsageError, match="is no span of time"):
        span(f"-{given}")


def test_sizes_are_read_by_people() -> None:
    assert [size(each) for each in (0, 1023, 1536, 5 << 30, 3 << 50)] == [
        "0 B",
        "1,023 B",
        "1.5 KiB",
        "5.0 GiB",
        "3,072.0 TiB",
    ]
