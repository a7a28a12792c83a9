"""Environments that need other packages have workers with these, on whatever machine."""

from collections.abc import Iterator

import pytest

from envhub.environments.requirements import check_requirements
from envhub.errors import Boundary, UsageError
from envhub.registry import environment, environments
from envhub.rollouts.packages import folder_with
from envhub.testing.runs import request
from tests.rollouts import abacus
from tests.rollouts.crews import open_crew_run

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True, scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of packages of our own."""
    with pytest.MonkeyPatch.context() as patch, abacus.wheel():
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


async def test_an_environment_has_workers_with_the_packages_that_it_requires() -> None:
    async with open_crew_run(1) as run:
        plain = await run.play(request("test/walk-v0"))
        counted = await run.play(request("test/abacus-v0", k=2))
        assert len(run.workers.pids) == 2  # type: ignore[union-attr]
    assert [outcome.reward for outcome in counted] == [float(3)] * 2
    assert plain[0].reward == 1.0


async def test_without_workers_a_lacking_package_is_the_environments_fault_with_the_way_out() -> None:
    async with open_crew_run(0) as run:
        (outcome,) = await run.play(request("test/abacus-v0", max_tries=1))
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.ENVIRONMENT
    assert "requires 'envhub-test-abacus @ file:" in outcome.failure.message
    assert "which is not installed in" in outcome.failure.message
    assert "run it with --workers" in outcome.failure.message


async def test_packages_that_can_not_be_installed_end_the_run_with_what_the_installer_said() -> None:
    reason = r"can't install \./nowhere-1\.0-py3-none-any\.whl: .*nowhere"
    with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=reason), flatten_subgroups=True):
        async with open_crew_run(1) as run:
            await run.play(request("test/nowhere-v0"))


def test_packages_are_installed_once() -> None:
    folder = folder_with((abacus.REQUIRED,))
    made = folder.stat().st_mtime_ns
    assert folder_with((abacus.REQUIRED,)) == folder
    assert folder.stat().st_mtime_ns == made
    assert list(folder.parent.iterdir()) == [folder]  # nothing half done beside it


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        ("numpy>=99", r"requires 'numpy>=99', and numpy [\d.]+ is installed in .*; install that, or run it with"),
        ("not a requirement", "requires 'not a requirement', which does not read as a requirement"),
    ],
)
def test_what_is_required_in_vain_is_named(requires: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_known", {})
    environment("test/vain-v0", tasks=[], requires=[requires])(abacus.abacus)
    with pytest.raises(UsageError, match=f"environment 'test/vain-v0' {reason}"):
        check_requirements(environments.get("test/vain-v0"))


def test_what_is_there_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "_known", {})
    environment("test/there-v0", tasks=[], requires=["numpy", "nowhere; python_version < '3'"])(abacus.abacus)
    check_requirements(environments.get("test/there-v0"))


def test_a_requirement_that_is_no_list_is_refused() -> None:
    with pytest.raises(UsageError, match=r"must be a list, like \['scipy'\]"):
        environment("test/text-v0", tasks=[], requires="scipy")
