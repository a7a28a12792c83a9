"""An embedded run: groups asked for one by one, over an engine that is given."""

from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from envhub.app import Settings, embedded, stored_members
from envhub.contracts.engine import Model
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberState
from envhub.contracts.rollout import GroupRequest
from envhub.contracts.turn import Sampling
from envhub.engines.scripted import Script, ScriptedEngine, add
from envhub.errors import Boundary, UsageError
from envhub.registry import environments
from envhub.rollouts.job import Job
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, ByteTokenizer

pytestmark = pytest.mark.anyio

ARITHMETIC = "envhub/arithmetic-v0"
JOB = Job((ARITHMETIC,), sampling=Sampling(max_tokens=8))


def model(script: Script = add, *, latency_s: float = 0.0, exact: bool = True) -> Model:
    engine = ScriptedEngine(script, ByteTokenizer(), latency_s=latency_s)
    return Model("scripted", engine, ByteTokenizer(), CHATML_TEMPLATE, exact)


def group(k: int = 4) -> GroupRequest:
    task = environments.get(ARITHMETIC).load_tasks()[0]
    return replace(JOB, k=k).request(ARITHMETIC, task)


def settings(folder: Path) -> Settings:
    return Settings(str(folder / "run.db"), sandbox="process", run_id="trained")


async def test_a_group_comes_back_as_a_feed_would_deliver_it(tmp_path: Path):
    async with embedded(model(), JOB, settings(tmp_path)) as runner:
        played = await runner.play(group())
    assert not played.failures
    assert [member.index for member in played.group.members] == [0, 1, 2, 3]
    assert set(played.group.rewards) == {0.0, 1.0}  # the script is wrong for some seeds
    rows = [row for member in played.group.members for row in member.rows]
    assert all(row.row.mask(trainable=True).sum() > 0 for row in rows)


async def test_what_was_played_is_in_the_store_as_acked(tmp_path: Path):
    async with embedded(model(), JOB, settings(tmp_path)) as runner:
        await runner.play(group())
    members = await stored_members(str(tmp_path / "run.db"), RunId("trained"))
    assert members.by_state == {MemberState.ACKED: 4}


async def test_a_member_that_failed_is_not_in_the_group_and_says_why(tmp_path: Path):
    def fails(asked: object) -> str:
        raise ValueError("no answer today")

    async with embedded(model(fails), JOB, settings(tmp_path)) as runner:
        played = await runner.play(group(k=1))
    assert not played.group.members
    assert played.failures[0].boundary is Boundary.ENGINE
    assert "no answer today" in played.failures[0].message


async def test_a_group_that_nobody_waits_for_any_more_is_cancelled(tmp_path: Path):
    async with embedded(model(latency_s=60), JOB, settings(tmp_path)) as runner:
        with anyio.move_on_after(0.5):
            await runner.play(group())
    members = await stored_members(str(tmp_path / "run.db"), RunId("trained"))
    assert members.by_state == {MemberState.CANCELLED: 4}


async def test_an_announced_version_is_that_of_later_groups(tmp_path: Path):
    async with embedded(model(), JOB, settings(tmp_path)) as runner:
        await runner.announce(3)
        assert (await runner.play(group())).group.policy_version == 3
        with pytest.raises(UsageError, match="below the newest"):
            await runner.announce(2)


@pytest.mark.parametrize(
    ("told", "refused"), [({"engine": "vllm"}, "engine is set"), ({"workers": 2}, "workers is set")]
)
async def test_what_is_up_to_the_trainer_is_refused(tmp_path: Path, told: dict[str, object], refused: str):
    with pytest.raises(UsageError, match=refused):
        async with embedded(model(), JOB, Settings(str(tmp_path / "run.db"), **told)):
            pass
    assert not (tmp_path / "run.db").exists()


async def test_groups_that_a_trainer_could_not_tell_from_others_are_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="extra is set"):
        async with embedded(model(), replace(JOB, extra=1), settings(tmp_path)):
            pass


async def test_a_job_that_cannot_work_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean"):
        async with embedded(model(), Job(("envhub/arithmetics-v0",)), settings(tmp_path)):
            pass
    assert not (tmp_path / "run.db").exists()


async def test_a_model_without_exact_log_probabilities_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="no exact log probabilities"):
        async with embedded(model(exact=False), JOB, settings(tmp_path)):
            pass
