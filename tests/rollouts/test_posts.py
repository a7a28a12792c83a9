"""Worker processes of this machine, and their manager's release."""

import pytest

from envhub.errors import UsageError
from tests.rollouts.crews import open_crew_run

pytestmark = pytest.mark.anyio


async def test_a_worker_of_another_release_is_refused_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("envhub.rollouts.posts.release", lambda: "9.9")
    reason = r"worker process \d+ has envhub [\d.]+ and its manager 9\.9; install the same in both places"
    with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=reason), flatten_subgroups=True):
        async with open_crew_run(1):
            raise AssertionError
