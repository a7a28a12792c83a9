"""Reward functions that never end, in a module of their own so that another process can import them."""

import time

from envhub.contracts.score import JudgeInput

HELD_BYTES = 1 << 30


def sleeps(input: JudgeInput) -> float:
    while True:
        time.sleep(60)


def holds_memory(input: JudgeInput) -> float:
    """Of which every page is its own, so that it has to be given back."""
    held = bytearray(HELD_BYTES)
    held[::4096] = b"1" * len(held[::4096])
    while True:
        time.sleep(60)
