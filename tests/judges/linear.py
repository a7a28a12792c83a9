"""Responses of megabytes are read in the time of their length."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

LIMIT_S = (
    10.0  # honest work is under 1 s and collecting the garbage of all tests as much again; a square would be minutes
)


@contextmanager
def linear() -> Iterator[None]:
    """Fails where what is inside took the square of its input's length."""
    start = time.thread_time()
    yield
    assert time.thread_time() - start < LIMIT_S
