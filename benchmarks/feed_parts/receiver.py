"""A client in a process of its own: python -m benchmarks.feed_parts.receiver KIND ADDRESS; prints one line of JSON.

KIND is `raw`, which takes bytes and throws them away; `feed`, one FeedClient that makes numpy records and acks; or
`crowd`, 64 of them.
"""

import json
import sys
import time
from threading import Barrier, Thread

import grpc

from envhub.feed.client import FeedClient

STEP = 8  # groups
CONSUMERS = 64
CROWD_BYTES = 24 << 20  # credit of each of a crowd


def raw(address: str) -> dict[str, float]:
    """Bytes and seconds from the first message to the last."""
    with grpc.insecure_channel(address, options=(("grpc.max_receive_message_length", -1),)) as channel:
        received, began = 0, 0.0
        for message in channel.unary_stream("/raw/Stream")(b""):
            began = began or time.perf_counter()
            received += len(message)
        return {"bytes": received, "seconds": time.perf_counter() - began}


def feed(address: str) -> dict[str, float]:
    """Groups, each made into numpy records and acked, those of a step together; and the seconds of as many, from the
    first one on."""
    groups, began = 0, 0.0
    with FeedClient(address, consumer="bench") as client:
        for lease in client.groups(credit=STEP):
            began = began or time.perf_counter()
            groups += 1
            lease.trained()
            if groups % STEP == 0:
                client.ack_trained()
        client.ack_trained()
        seconds = time.perf_counter() - began
    return {"groups": groups, "seconds": seconds * groups / (groups - 1)}


def crowd(address: str) -> dict[str, list[int]]:
    """How many groups each of 64 consumers got, that all began at once."""
    groups = [0] * CONSUMERS
    begin = Barrier(CONSUMERS)

    def consume(number: int) -> None:
        with FeedClient(address, consumer=f"bench-{number}") as client:
            begin.wait()
            for lease in client.groups(credit=4, max_bytes=CROWD_BYTES):
                groups[number] += 1
                lease.ack()

    threads = [Thread(target=consume, args=(number,)) for number in range(CONSUMERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"groups": groups}


if __name__ == "__main__":
    kind, address = sys.argv[1:]
    print(json.dumps({"raw": raw, "feed": feed, "crowd": crowd}[kind](address)))
