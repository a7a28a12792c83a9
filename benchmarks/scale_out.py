"""What it costs to have workers on a Ray cluster, what two bring over one, and what a worker's death takes.

Episodes of four turns against a model that costs nothing, recorded to SQLite; the cluster is one node on this machine.
Every CPU time is that of manager, workers and actors together, beside the same load in one process (the floor) and in
plain worker processes, one after the other. The manager's own cost is measured with workers that replay, in virtual
time.

    python -m benchmarks.scale_out [--quick]
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import TypeVar

import anyio

from benchmarks.null_parts.report import figure, machine
from benchmarks.scale_parts.cost import Cost, cost_of
from benchmarks.scale_parts.resume import resumed
from benchmarks.scale_parts.runs import Where
from benchmarks.scale_parts.simulated import play as simulate
from benchmarks.scale_parts.steps import TURNS
from benchmarks.scale_parts.typical import store_us, typical
from envhub.app import LOOP

T = TypeVar("T")
CREWS = (10, 100, 1_000)  # simulated workers
LONG = 40  # turns of a rollout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rollouts: under 45 s where nothing else runs")
    quick = parser.parse_args().quick
    figures = [*simulated(2_000 if quick else 10_000)]
    with cluster() as ray:
        figures += [*costs(ray, 2_000 if quick else 20_000), *death(ray, 200 if quick else 1_000)]
    print(json.dumps({"benchmark": "scale_out", "machine": machine(), "figures": figures}))


def simulated(rollouts: int) -> Iterator[dict[str, object]]:
    floor = 0.0
    for crew in CREWS:
        us = apart(partial(simulate, crew, rollouts)).cpu_us
        floor = floor or us
        yield figure(f"manager_cpu_per_rollout_{crew}_workers", us, "us", floor, "<= 300", us <= 300)
        note(f"{crew} simulated workers: {us:.0f} us of the manager a rollout")
    yield from typical_turns(rollouts // 10)


def typical_turns(rollouts: int) -> Iterator[dict[str, object]]:
    """What docs/scaling.md reckons with."""
    short, long = (apart(partial(simulate, CREWS[1], rollouts, turns, typical)) for turns in (TURNS, LONG))
    further = rollouts * (LONG - TURNS)
    yield figure("manager_cpu_per_further_turn", (long.cpu_s - short.cpu_s) / further * 1e6, "us", 0, "", None)
    yield figure("bytes_per_further_turn", (long.traffic.bytes - short.traffic.bytes) / further, "bytes", 0, "", None)
    yield figure("sqlite_cpu_per_turn", apart(partial(store_us, rollouts // 10)), "us", 0, "", None)


def costs(ray: str, rollouts: int) -> Iterator[dict[str, object]]:
    local, process = play(Where(), rollouts), play(Where(1), rollouts)
    over_processes = process.cpu_us_per_turn - local.cpu_us_per_turn
    yield figure("overhead_per_turn_process", over_processes, "us", local.cpu_us_per_turn, "", None)
    one, two = (play(Where(workers, ray), rollouts) for workers in (1, 2)) if ray else (None, None)
    if one and two:
        over = one.cpu_us_per_turn - local.cpu_us_per_turn
        yield figure("overhead_per_turn_ray", over, "us", local.cpu_us_per_turn, "<= 15", over <= 15)
        gain = two.rollouts_per_s / one.rollouts_per_s
        yield figure("two_workers_over_one_ray", gain, "ratio", 2.0, ">= 1.5", gain >= 1.5)
    gain = play(Where(2), rollouts).rollouts_per_s / process.rollouts_per_s
    yield figure("two_workers_over_one_process", gain, "ratio", 2.0, ">= 1.5", gain >= 1.5)


def death(ray: str, rollouts: int) -> Iterator[dict[str, object]]:
    for name, where in (("process", Where(2)), ("ray", Where(2, ray))):
        if where.ray or name == "process":
            went = apart(partial(run, resumed, where, rollouts))
            note(f"{name}: {went}")
            yield figure(f"resume_{rollouts}_{name}", went.seconds, "s", 0, "<= 10", went.seconds <= 10)
            yield figure(f"lost_or_doubled_{name}", went.wrong, "rollouts", 0, "0", not went.wrong)


def play(where: Where, rollouts: int) -> Cost:
    cost = apart(partial(run, cost_of, where, rollouts))
    note(f"{where}: {cost}")
    return cost


def run(work: Callable[..., object], *args: object) -> object:
    return anyio.run(work, *args, backend_options=LOOP)  # type: ignore[arg-type]


def apart(work: Callable[[], T]) -> T:
    """What it gives, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work)


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a Ray cluster on this machine; "" where Ray is missing."""
    if find_spec("ray") is None:
        note("Ray is not installed: its figures are left out (pip install 'envhub-rl[ray]')")
        yield ""
        return
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 8, "include_dashboard": False, "object_store_memory": 80 << 20}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    try:
        yield nodes.address
    finally:
        nodes.shutdown()


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
