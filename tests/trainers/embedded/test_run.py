"""EmbeddedRun: a run in a thread, over a generate function on the trainer's loop."""

import asyncio
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import pytest

from envhub.app import Settings
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.turn import Sampling
from envhub.errors import Fault, UsageError
from envhub.rollouts.job import Job
from envhub.trainers.embedded.engine import Sampled, TrainerEngine
from envhub.trainers.embedded.run import EmbeddedRun, scored
from envhub.trainers.embedded.tasks import TaskRows
from tests.trainers.embedded.sampling_trainer import ARITHMETIC, CONTEXT, Trainer, byte_model

pytestmark = pytest.mark.anyio

JOB = Job((ARITHMETIC,))


@pytest.fixture
def engine() -> TrainerEngine:
    return TrainerEngine(CONTEXT)


@pytest.fixture
def run(engine: TrainerEngine, tmp_path: Path):
    opened = EmbeddedRun(byte_model(engine), JOB, Settings(str(tmp_path / "run.db"), sandbox="process"))
    yield opened
    opened.close()


def requests(count: int, k: int = 2) -> list[GroupRequest]:
    rows = TaskRows(JOB)
    return [rows.request(row, k, Sampling(max_tokens=8)) for row in rows.rows()[:count]]


async def test_groups_come_back_in_order_with_the_tokens_that_the_trainer_sampled(engine, run):
    trainer = Trainer()
    trainer.policy_version = PolicyVersion(7)
    engine.sample_with(trainer)
    asked = requests(3)
    played = await run.played(asked)
    assert [one.group.task_id for one in played] == [request.rollout.task.id for request in asked]
    for member in (member for one in played for member in one.group.members):
        (row,) = member.rows
        (span,) = [span for span in row.row.spans if span.trainable]
        assert span.policy_version == 7
        prompt = row.row.ids[: row.prompt_length].tolist()
        assert any(request.prompt_ids.tolist() == prompt for request in trainer.requests)


async def test_the_trainer_s_loop_goes_on_while_rollouts_run(engine, run):
    ticks = 0

    async def slow(request):
        await anyio.sleep(0.3)
        return await Trainer()(request)

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await anyio.sleep(0.01)

    engine.sample_with(slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await run.played(requests(1))
        tasks.cancel_scope.cancel()
    assert ticks > 5


async def test_cancelled_the_trainer_s_own_coroutine_ends(engine, run):
    ended = anyio.Event()

    async def endless(request):
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    engine.sample_with(endless)
    with anyio.move_on_after(0.5):
        await run.played(requests(1, k=1))
    with anyio.fail_after(10):
        await ended.wait()


async def test_a_trainer_that_keeps_no_log_probabilities_is_told_so(engine, run):
    async def without(request):
        return Sampled([65, 257], None)

    engine.sample_with(without)
    (played,) = await run.played(requests(1, k=1))
    with pytest.raises(Fault, match="gave 2 ids and none log probabilities"):
        scored(played)


async def test_a_trainer_that_raises_fails_its_rollouts_and_not_the_run(engine, run):
    async def broken(request):
        raise RuntimeError("no server")

    engine.sample_with(broken)
    (played,) = await run.played(requests(1, k=1))
    with pytest.raises(Fault, match="RuntimeError: no server"):
        scored(played)
    engine.sample_with(Trainer())
    assert scored((await run.played(requests(1, k=1)))[0]).members


def test_a_thread_without_a_loop_waits_for_groups(engine, run):
    started = anyio.run(played_from_a_loop_of_its_own, engine, run)
    assert started == 2


async def played_from_a_loop_of_its_own(engine: TrainerEngine, run: EmbeddedRun) -> int:
    engine.sample_with(Trainer())
    played = await asyncio.to_thread(run.play, requests(2))
    return len(played)


async def test_what_cannot_work_is_told_where_it_is_opened(engine, tmp_path: Path):
    with pytest.raises(UsageError, match="arithmetic"):
        EmbeddedRun(byte_model(engine), Job(("envhub/arithmetics-v0",)), Settings(str(tmp_path / "run.db")))
    with pytest.raises(UsageError, match="workers is set"):
        EmbeddedRun(byte_model(engine), JOB, Settings(str(tmp_path / "run.db"), workers=1))


async def test_a_closed_run_takes_nothing_more(engine, run):
    run.close()
    run.close()
    with pytest.raises(UsageError, match="is closed"):
        run.play(requests(1))


def test_a_process_that_forgot_to_close_its_run_ends(tmp_path: Path):
    program = f"""
        from envhub.app import Settings
        from envhub.rollouts.job import Job
        from envhub.trainers.embedded.engine import TrainerEngine
        from envhub.trainers.embedded.run import EmbeddedRun
        from tests.trainers.embedded.sampling_trainer import byte_model
        run = EmbeddedRun(byte_model(TrainerEngine(512)), Job(("{ARITHMETIC}",)), Settings("{tmp_path}/run.db"))
        print("opened")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "opened\n", "")
