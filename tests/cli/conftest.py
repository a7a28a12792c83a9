"""What the tests of the command share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from envhub import cli
from envhub.registry import engines, environments
from tests.cli.command import WORLDS, Answer, Command, started


@pytest.fixture
def envhub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Calls the command in this process, in an empty directory; what it registers or imports is forgotten after."""
    monkeypatch.chdir(tmp_path)
    ours = {name: environments.get(name) for name in environments.names() if name.startswith("envhub/")}
    monkeypatch.setattr(environments, "_known", ours)
    monkeypatch.setattr(engines, "_known", dict(engines._known))
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["envhub", *arguments])
        code: object = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        return Answer(int(str(code or 0)), captured.out, captured.err)

    yield call
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith((str(tmp_path), WORLDS)):
            del sys.modules[name]


@pytest.fixture
def program(tmp_path: Path) -> Command:
    """Runs the command as a program of its own, in an empty directory."""

    def call(*arguments: str) -> Answer:
        with started(tmp_path, *arguments) as running:
            return running.end()

    return call


@pytest.fixture
def without_isolation(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sandbox back end that isolates works here."""

    async def none(backends: object) -> None:
        return None

    monkeypatch.setattr("sandboxes.choose.first_isolating", none)
