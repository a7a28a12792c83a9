"""Every test here is one of sandboxes; the table of the escape suite is printed when the tests have ended."""

from pathlib import Path

import pytest

from envhub.testing.escape_suite import Verdict, table

HERE = Path(__file__).parent
VERDICTS = pytest.StashKey[list[Verdict]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.sandboxes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    verdicts = config.stash.get(VERDICTS, [])
    if verdicts:
        terminalreporter.section("escape and abuse")
        terminalreporter.write_line(table(verdicts))
