"""open_run: what a run leaves when it ends too early, and how it goes on from there."""

import time
from pathlib import Path

import anyio
import pytest

from envhub.app import Settings, open_run, stored_members
from envhub.contracts.members import MemberState
from envhub.errors import UsageError
from envhub.rollouts.job import Job
from envhub.rollouts.outside import OutsideRollouts

pytestmark = pytest.mark.anyio
ARITHMETIC = "envhub/arithmetic-v0"


class Cut(Exception):
    """Ends a run too early."""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(str(tmp_path / "run.db"), "mine", engine="scripted")


def resumed(settings: Settings) -> Settings:
    return Settings(settings.database, settings.run_id, resume=True, engine="scripted")


async def cut_short(settings: Settings, job: Job) -> None:
    """A run that ended once a program outside had opened a rollout, before any of its job was begun."""
    with pytest.raises(ExceptionGroup) as caught:
        async with open_run(settings, job, None) as run:
            await (await OutsideRollouts(run.manager).open(ARITHMETIC, 0)).outcome()
            raise Cut
    assert caught.group_contains(Cut)


async def test_rollouts_from_outside_take_nothing_from_the_job(settings: Settings):
    await cut_short(settings, Job((ARITHMETIC,), groups=3, k=2))
    async with open_run(resumed(settings), None, None) as run:
        assert len(await run.play()) == 3
    members = await stored_members(settings.database, run.id)
    assert (members.of(MemberState.ACKED), members.of(MemberState.FAILED)) == (6, 1)


async def test_the_job_of_a_run_is_known_to_the_process_that_goes_on(settings: Settings):
    job = Job((ARITHMETIC,), groups=3, k=2, judge="exact")
    await cut_short(settings, job)
    async with open_run(resumed(settings), None, None) as run:
        assert run.job == job


async def test_a_cancelled_run_returns_its_leases_at_once(tmp_path: Path):
    settings = Settings(str(tmp_path / "run.db"), "mine", engine="scripted", feed="127.0.0.1:0")
    with anyio.CancelScope() as scope:
        async with open_run(settings, Job((ARITHMETIC,)), None) as run:
            await run.play()
            assert run.deliveries is not None
            assert await run.deliveries.lease("somebody")
            cancelled_at = time.monotonic()
            scope.cancel()
    assert time.monotonic() - cancelled_at < 5
    members = await stored_members(settings.database, run.id)
    assert members.of(MemberState.SCORED) == members.submitted == 4


async def test_a_run_goes_on_only_where_its_sandboxes_are(settings: Settings):
    class Backend:
        name = "here"

    with pytest.raises(ExceptionGroup):
        async with open_run(settings, Job(("envhub/calculator-v0",)), Backend()):  # type: ignore[arg-type]
            raise Cut
    with pytest.raises(UsageError, match="needs a sandbox"):
        async with open_run(resumed(settings), None, None):
            pass
