"""A Ray cluster on this machine, of real nodes: each has a raylet of its own."""

import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from envhub.rollouts.posts import Posts
from envhub.rollouts.ray_places import RayPlaces

SMALL = {"object_store_memory": 80 << 20, "include_dashboard": False}


@contextmanager
def cluster() -> Iterator[Any]:
    """Its head has room for eight workers; `add_node` and `remove_node` change it."""
    pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
    from ray.cluster_utils import Cluster

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
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
        yield RayPosts(RayPlaces(nodes.address, **places), workers)
