"""A Ray cluster on a network of its own: nodes in network namespaces of this machine, with cables to be cut."""

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.rollouts.ray_clusters import SMALL

NODE_S = 60.0  # that one has to join
# So that a node that can't be reached is given up within some seconds; not so few that a busy machine loses one.
IMPATIENT = {
    "health_check_initial_delay_ms": 2_000,
    "health_check_period_ms": 1_000,
    "health_check_timeout_ms": 3_000,
    "health_check_failure_threshold": 3,
}


@dataclass
class Node:
    """A raylet behind a cable."""

    namespace: str
    cable: str  # our end of it
    address: str

    def cut(self) -> None:
        _ip("link", "set", self.cable, "down")

    def mend(self) -> None:
        _ip("link", "set", self.cable, "up")

    def processes(self) -> list[psutil.Process]:
        """All that run there."""
        found = []
        for pid in _ip("netns", "pids", self.namespace).split():
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def kill(self) -> None:
        """All that run there at once, as when the power fails."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)


@dataclass
class Network:
    """A head on a switch, and nodes that have what the head lacks: `spare`, for so many workers each."""

    name: str
    address: str  # of the head
    subnet: str
    nodes: list[Node] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(2))

    def add_node(self, spare: int = 1) -> Node:
        number = next(self._numbers)
        node = Node(f"{self.name}n{number}", f"{self.name}c{number}", f"{self.subnet}.{number}")
        self.nodes.append(node)
        _ip("netns", "add", node.namespace)
        _ip("link", "add", node.cable, "type", "veth", "peer", "name", "eth0", "netns", node.namespace)
        _ip("link", "set", node.cable, "master", self.name, "up")
        for command in ("link set lo up", f"addr add {node.address}/24 dev eth0", "link set eth0 up"):
            _ip("-n", node.namespace, *command.split())
        self.start(node, spare)
        return node

    def start(self, node: Node, spare: int = 1) -> None:
        """A raylet there, once more where it was killed or given up."""
        node.kill()
        ray = Path(sys.executable).with_name("ray")
        options = [f"--address={self.address}", f"--node-ip-address={node.address}", "--num-cpus=4"]
        options += [f'--resources={{"spare": {spare}}}', f"--object-store-memory={SMALL['object_store_memory']}"]
        told = ["ip", "netns", "exec", node.namespace, str(ray), "start", *options, "--disable-usage-stats"]
        done = subprocess.run(told, capture_output=True, text=True, timeout=NODE_S, check=False)
        assert not done.returncode, done.stdout + done.stderr

    def close(self) -> None:
        for node in self.nodes:
            node.kill()
            deadline = time.monotonic() + NODE_S
            while node.processes() and time.monotonic() < deadline:
                time.sleep(0.05)
            _ip("netns", "del", node.namespace)
        _ip("link", "del", self.name)


@contextmanager
def network() -> Iterator[tuple[Network, Any]]:
    """One of its own with a head, and the cluster of that head."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    from ray.cluster_utils import Cluster

    name, subnet = f"eh{os.getpid() % 10**7}", f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
    head = f"{subnet}.1"
    _ip("link", "add", name, "type", "bridge")
    made = Network(name, "", subnet)
    nodes = None
    try:
        _ip("addr", "add", f"{head}/24", "dev", name)
        _ip("link", "set", name, "up")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray's own
            told = {"num_cpus": 2, "node_ip_address": head, "_system_config": IMPATIENT, **SMALL}
            nodes = Cluster(initialize_head=True, head_node_args=told)
        made.address = nodes.address
        yield made, nodes
    finally:
        if nodes:
            nodes.shutdown()
        made.close()


def _ip(*told: str) -> str:
    done = subprocess.run(["ip", *told], capture_output=True, text=True, check=False)
    assert not done.returncode, f"ip {' '.join(told)}: {done.stderr}"
    return done.stdout
