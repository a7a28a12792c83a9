"""What the feed costs, from a closed group to a trainer's tensors; each figure beside a floor of the same run.

python -m benchmarks.feed [--quick]
"""

import argparse
import json
import os
import sys
from importlib.util import find_spec

import anyio

from benchmarks.feed_parts import records, wire
from benchmarks.feed_parts.groups import group_of
from benchmarks.feed_parts.measure import Figure
from envhub.app import LOOP
from envhub.feed.codec import decode_group
from envhub.feed.encoding import encode_group
from envhub.rollouts.garbage import rare_collections

QUICK = {"rounds": 20, "long": 16, "short": 304, "crowd": 256}  # groups: whole steps of a receiver
WHOLE = {"rounds": 200, "long": 64, "short": 2_000, "crowd": 1_024}


async def over_the_wire(sizes: dict[str, int]) -> list[Figure]:
    """Server and client, each in a process of its own, and the server's with the garbage collector as a run sets it."""
    with rare_collections():
        figures = await wire.throughput(sizes["long"])
        figures.append(await wire.server_cpu(sizes["short"]))
        return figures + await wire.crowd(sizes["crowd"])


def to_records(rounds: int) -> list[Figure]:
    """From a delivered group to what trainers take."""
    group = decode_group(encode_group(group_of(0, wire.ROW)))
    figures = [wire.codec(rounds), *records.adapters(group, rounds), *records.objective(group, rounds)]
    return figures + (records.tensors(group, rounds) if find_spec("torch") else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer groups and rounds: under 45 s")
    sizes = QUICK if parser.parse_args().quick else WHOLE
    print("records", file=sys.stderr)
    figures = to_records(sizes["rounds"])
    print("over the wire", file=sys.stderr)
    figures += anyio.run(over_the_wire, sizes, backend_options=LOOP)
    missing = [] if find_spec("torch") else ["torch: collated_tensors was not measured"]
    machine = f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"
    print(json.dumps({"benchmark": "feed", "machine": machine, "missing": missing, "figures": figures}))


if __name__ == "__main__":
    main()
