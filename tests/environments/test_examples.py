"""The examples on environments of one's own run over the scripted engine."""

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from envhub.registry import environments

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture(autouse=True)
def registered_for_one_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    yield


@pytest.mark.parametrize(
    ("name", "tasks"), [("own_environment", {f"guess-{number}" for number in range(1, 21)}), ("frozen_lake", {"4x4"})]
)
def test_example_plays_a_group(name: str, tasks: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    example["main"](engine="scripted", database=str(tmp_path / "run.db"))
    task, _, rewards = capsys.readouterr().out.strip().partition(" ")
    assert task in tasks
    assert rewards.count(",") == 3
