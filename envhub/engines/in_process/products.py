"""Products: matrix products shared out over our own threads, each with a single-threaded BLAS.

OpenBLAS's own threads meet at a barrier in every product and spin there: beside tools that burn the cores, a step takes
several times as long. Here a product waits for helpers that sleep, which the scheduler runs first. See docs/adr/001.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from envhub.engines.in_process.gguf_weights import Floats

# For every product OpenBLAS repacks the whole matrix, which costs more than a few rows' arithmetic: 111 ms a step of
# 16 rows. Products of at most 100**3 multiplications take a path without it: 16 outputs a call, 57 ms.
BLOCK = 16
FEW_ROWS = 32
# A thread takes its next share when it is done with the last, so that one on a busy core does less: 73 ms a step of 16
# rows with one of two cores busy, where halves take 88.
SHARES = 4  # a thread
LEAST = 192  # outputs a share


class Products:
    """Multiplies on `threads` threads, the caller's one of them. Holds BLAS to one thread while it lives."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limits = threadpool_limits(limits=1, user_api="blas")
        self._helpers = ThreadPoolExecutor(max(1, threads - 1), thread_name_prefix="envhub-products")

    def multiply(self, x: Floats, w: Floats) -> Floats:
        """x @ w.T of x [n, in] and contiguous w [out, in]."""
        out = np.empty((len(x), len(w)), np.float32)
        share = max(-(-len(w) // (self._threads * SHARES) // BLOCK) * BLOCK, LEAST)
        starts = iter(range(0, len(w), share))  # all threads draw from it: each share is taken once

        def work() -> None:
            for start in starts:
                _product(x, w[start : start + share], out[:, start : start + share])

        helped = [self._helpers.submit(work) for _ in range(self._threads - 1)]
        work()
        for helper in helped:
            if not helper.cancel():  # it began: what it took is not done yet
                helper.result()
        return out

    def close(self) -> None:
        """Ends the threads and gives BLAS its own back. Idempotent."""
        self._helpers.shutdown()
        self._limits.restore_original_limits()


def _product(x: Floats, w: Floats, out: Floats) -> None:
    rows, blocks = len(x), len(w) // BLOCK
    if rows == 1 or rows > FEW_ROWS or len(w) % BLOCK:
        np.matmul(x, w.T, out=out)
        return
    blocked = out.reshape(rows, blocks, BLOCK).transpose(1, 0, 2)
    np.matmul(x, w.reshape(blocks, BLOCK, -1).transpose(0, 2, 1), out=blocked)
