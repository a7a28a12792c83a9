"""Workers on a Ray cluster: where they go, what is said where they can't, and what is left when they or nodes die."""

import os
import random
import signal
from contextlib import suppress
from typing import Any

import anyio
import psutil
import pytest

from envhub.errors import UsageError
from envhub.rollouts.process_workers import ProcessWorkers
from envhub.rollouts.ray_places import RayPlaces
from envhub.testing.runs import request
from tests.rollouts import abacus
from tests.rollouts.crews import CrewRun, open_crew_run
from tests.rollouts.hurting import play_while
from tests.rollouts.ray_clusters import SMALL, ray_posts

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
from envhub.rollouts import ray_relay
from envhub.rollouts.ray_workers import connected

pytestmark = [pytest.mark.anyio, pytest.mark.ray]


def workers_of(run: CrewRun) -> ProcessWorkers:
    assert isinstance(run.workers, ProcessWorkers)
    return run.workers


def kill_a_worker(workers: ProcessWorkers, chosen: random.Random) -> None:
    """Or the actor beside it."""
    if workers.pids:
        with suppress(ProcessLookupError, psutil.NoSuchProcess):  # it is dead already, and nobody knows yet
            worker = psutil.Process(chosen.choice(workers.pids))
            os.kill(chosen.choice([worker.pid, worker.ppid()]), signal.SIGKILL)


async def test_killed_workers_and_actors_lose_no_member(ray_cluster: Any) -> None:
    async with ray_posts(ray_cluster, 2) as posts, open_crew_run(2, latency_s=0.05, posts=posts) as run:
        chosen = random.Random(0)

        async def kill_six() -> None:
            for deaths in range(6):
                while workers_of(run).deaths == deaths:
                    await anyio.sleep(chosen.uniform(0.2, 0.6))
                    kill_a_worker(workers_of(run), chosen)

        await play_while(run, kill_six)


async def test_workers_go_where_what_they_need_is(ray_cluster: Any) -> None:
    node = ray_cluster.add_node(num_cpus=2, resources={"sandbox": 2.0}, labels={"zone": "east"}, **SMALL)
    needs = {"CPU": 0.5, "sandbox": 1.0}
    async with (
        ray_posts(ray_cluster, 2, needs=needs, labels={"zone": "east"}) as posts,
        open_crew_run(2, posts=posts) as run,
    ):
        assert [node.node_id[:8] in name for name in workers_of(run).names] == [True, True]
    ray_cluster.remove_node(node)


async def test_an_environment_has_workers_with_the_packages_that_it_requires_on_their_nodes(ray_cluster: Any) -> None:
    with abacus.wheel():
        async with ray_posts(ray_cluster, 1) as posts, open_crew_run(1, posts=posts) as run:
            outcomes = await run.play(request("test/abacus-v0", k=2))
            assert len(workers_of(run).pids) == 2
    assert [outcome.reward for outcome in outcomes] == [3.0] * 2


async def test_a_need_that_no_node_has_ends_the_run_before_it_began(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envhub.rollouts.ray_workers.PLACE_S", 1.0)
    async with ray_posts(ray_cluster, 1, needs={"abacus": 1.0}) as posts:
        reason = r"no place for worker 0, which needs 1 abacus; free in it: .*CPU.*; add nodes"
        with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=reason), flatten_subgroups=True):
            async with open_crew_run(1, posts=posts):
                raise AssertionError


async def test_a_worker_of_another_release_is_refused_with_both_and_its_node(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envhub.rollouts.ray_workers.release", lambda: "9.9")
    async with ray_posts(ray_cluster, 1) as posts:
        reason = r"on node .*, Ray's \w{8}\) has envhub [\d.]+ and its manager 9\.9; install the same"
        with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=reason), flatten_subgroups=True):
            async with open_crew_run(1, posts=posts):
                raise AssertionError


async def test_a_node_without_envhub_is_named_with_the_remedy(
    ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without:
        without.setattr("importlib.util.find_spec", lambda name: None)
        missing = ray_relay._missing()
    monkeypatch.setattr(ray_relay, "_missing", lambda: missing)  # the actor takes it along to the node
    async with ray_posts(ray_cluster, 1) as posts:
        reason = r"node .* has no envhub in .*; install the manager's release of envhub-rl\[run\] there"
        with pytest.RaisesGroup(pytest.RaisesExc(UsageError, match=reason), flatten_subgroups=True):
            async with open_crew_run(1, posts=posts):
                raise AssertionError


async def test_a_cluster_that_does_not_answer_is_named_with_how_to_make_one() -> None:
    with pytest.raises(UsageError, match=r"no Ray cluster answers at '127\.0\.0\.1:1': .*`ray start --head`"):
        async with connected("127.0.0.1:1"):
            raise AssertionError


def test_an_address_that_can_not_be_one_of_a_cluster_is_refused() -> None:
    for address in ("", "ray://head:10001", "head", "head:first"):
        with pytest.raises(UsageError, match="must be HOST:PORT of the head, or auto"):
            RayPlaces(address)


def test_a_need_below_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="needs -1 of 'sandbox'"):
        RayPlaces("auto", {"sandbox": -1.0})
