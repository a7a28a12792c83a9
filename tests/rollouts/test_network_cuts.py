"""Workers on nodes with a network between them, which is cut: nothing is lost, and nothing is recorded twice."""

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from envhub.contracts.events import RolloutResumed
from envhub.rollouts.process_workers import ProcessWorkers
from tests.rollouts.crews import CrewRun, open_crew_run
from tests.rollouts.hurting import play_while
from tests.rollouts.network import Network, Node, network
from tests.rollouts.ray_clusters import ray_posts

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")

pytestmark = [pytest.mark.anyio, pytest.mark.ray, pytest.mark.timeout(300)]
NEEDS = {"CPU": 1.0, "spare": 1.0}  # of which each node has one, and the head none


@pytest.fixture(scope="module")
def net() -> Iterator[tuple[Network, Any]]:
    """With two nodes beside the head."""
    with network() as (made, nodes):
        for _ in range(2):
            made.add_node()
        yield made, nodes


def workers_of(run: CrewRun) -> ProcessWorkers:
    assert isinstance(run.workers, ProcessWorkers)
    return run.workers


async def until_both_work(run: CrewRun, deaths: int) -> None:
    """Again, after so many deaths."""
    while workers_of(run).deaths < deaths or len(workers_of(run).pids) < 2:  # noqa: ASYNC110 - nobody announces it
        await anyio.sleep(0.1)


async def test_a_short_cut_costs_no_worker(net: tuple[Network, Any]) -> None:
    made, nodes = net
    async with ray_posts(nodes, 2, needs=NEEDS) as posts, open_crew_run(2, latency_s=0.05, posts=posts) as run:

        async def cut_thrice() -> None:
            for node in (*made.nodes, made.nodes[0]):
                await anyio.sleep(0.5)
                node.cut()
                await anyio.sleep(1.5)
                node.mend()

        with anyio.fail_after(200):
            await play_while(run, cut_thrice)
        assert workers_of(run).deaths == 0
        assert not any(isinstance(event, RolloutResumed) for event in await run.events())


async def test_cuts_and_killed_nodes_on_a_schedule_lose_no_member(net: tuple[Network, Any]) -> None:
    made, nodes = net
    one, other = made.nodes
    async with (
        ray_posts(nodes, 2, needs=NEEDS) as posts,
        open_crew_run(2, latency_s=0.05, hang_s=5.0, posts=posts) as run,
    ):

        async def cut(node: Node) -> None:
            deaths = workers_of(run).deaths
            node.cut()
            while workers_of(run).deaths == deaths:  # noqa: ASYNC110 - nobody announces it
                await anyio.sleep(0.1)
            node.mend()
            await anyio.to_thread.run_sync(made.start, node)  # Ray has given it up
            await until_both_work(run, deaths + 1)

        async def kill(node: Node) -> None:
            deaths = workers_of(run).deaths
            await anyio.to_thread.run_sync(node.kill)
            await anyio.sleep(1.0)
            await anyio.to_thread.run_sync(made.start, node)
            await until_both_work(run, deaths + 1)

        async def hurt() -> None:
            for how, node in ((cut, one), (kill, other), (cut, other), (kill, one)):
                await anyio.sleep(1.0)
                await how(node)

        with anyio.fail_after(280):
            await play_while(run, hurt)
        assert any(isinstance(event, RolloutResumed) for event in await run.events())
