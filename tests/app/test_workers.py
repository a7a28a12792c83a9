"""Runs over worker processes, as a program starts them."""

import sys
from pathlib import Path

import pytest

import envhub
from envhub.app import Settings, open_run, play
from envhub.contracts.ids import RolloutId
from envhub.contracts.policy import Policy
from envhub.contracts.turn import Sampling
from envhub.errors import UsageError
from envhub.registry import environments
from envhub.rollouts.job import Job
from envhub.rollouts.ray_places import RayPlaces

pytestmark = pytest.mark.anyio


async def test_an_environment_that_no_module_brings_ends_the_run_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(environments, "_known", dict(environments._known))

    @envhub.environment("test/of-no-module-v0", tasks=[envhub.Task.ask("What is 1 + 1?", 2)])
    def nowhere() -> envhub.Environment:
        return envhub.SingleTurn(lambda input: 1.0)

    settings = Settings(str(tmp_path / "run.db"), engine="scripted", workers=1)
    with pytest.raises(UsageError, match=r"in Settings\.modules"):
        await play(Job(("test/of-no-module-v0",)), settings)


async def test_what_cannot_be_opened_in_a_worker_leaves_no_run(tmp_path: Path):
    settings = Settings(str(tmp_path / "run.db"), "mine", engine="scripted", workers=1, modules=("nowhere",))
    with pytest.raises(UsageError, match="can't import 'nowhere'"):
        await play(Job(("envhub/arithmetic-v0",)), settings)
    result = await play(Job(("envhub/arithmetic-v0",)), Settings(settings.database, "mine", engine="scripted"))
    assert result.members.drained


async def test_a_cluster_that_needs_ray_says_so_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "envhub.rollouts.ray_workers", raising=False)
    monkeypatch.delitem(sys.modules, "envhub.rollouts.ray_relay", raising=False)
    settings = Settings(str(tmp_path / "run.db"), engine="scripted", workers=1, ray=RayPlaces("auto"))
    with pytest.raises(UsageError, match=r"need the package 'ray'; install envhub-rl\[ray\]"):
        await play(Job(("envhub/arithmetic-v0",)), settings)


class Gateway:
    def open(self, rollout_id: RolloutId, policy: Policy, sampling: Sampling) -> object:
        raise AssertionError


async def test_a_gateway_is_refused_where_rollouts_run_elsewhere(tmp_path: Path):
    settings = Settings(str(tmp_path / "run.db"), engine="scripted", workers=1)
    with pytest.raises(UsageError, match="of its own process"):
        async with open_run(settings, None, None, endpoints=Gateway()):  # type: ignore[arg-type]
            raise AssertionError
