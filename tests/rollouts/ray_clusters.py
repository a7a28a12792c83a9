"""A Ray cluster on this machine, of real nodes: each has a raylet of its own."""

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from envhub.rollouts.posts import Posts
from envhub.rollouts.ray_places import RayPlaces
from envhub.rollouts.staffing import Bounds

SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def cluster() -> Iterator[Any]:
    """Its head has room for eight workers; `add_node` and `remove_node` change it."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    with TemporaryDirectory() as cache:
        with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
            warnings.simplefilter("ignore")  # Ray's own
            patch.setenv("XDG_CACHE_HOME", cache)  # where a node keeps packages that environments require
            nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 8, **SMALL})
        try:
            yield nodes
        finally:
            nodes.shutdown()


@asynccontextmanager
async def ray_posts(nodes: Any, workers: int, **places: Any) -> AsyncIterator[Posts]:
    """Places for workers in that cluster."""
    from envhub.rollouts.ray_workers import RayPosts, connected

    async with connected(nodes.address):
        yield RayPosts(RayPlaces(nodes.address, **places), Bounds(workers, workers))
