# ruff: noqa: PTH123, PTH208, SIM105
# Without pathlib and contextlib, which would double the agent's start-up time.
"""Process trees as /proc shows them: who descends from whom, how much memory they hold, and their end."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 4, 36


def prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it ended meanwhile; its children have another parent now, where the next look finds them
    return found


def descendants(pid: int) -> list[int]:
    found = children(pid)
    for one in found:
        found += children(one)
    return found


def send_signal(pid: int, number: int) -> None:
    """Signals a process, or a group where `pid` is negative, if it is still there."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def kill_below(pid: int) -> None:
    """Kills all descendants, group by group: a group dies at once, however fast its members fork."""
    for one in descendants(pid):
        try:
            group = os.getpgid(one)
        except ProcessLookupError:
            continue
        if group not in (0, 1, os.getpgrp()):  # before its setsid a command is in our own group
            send_signal(-group, signal.SIGKILL)
        send_signal(one, signal.SIGKILL)


def kill_tree(pid: int) -> None:
    """Kills a process and its descendants, all stopped first, so that none can fork out of sight or lose its parent."""
    tree: list[int] = []
    while (found := [pid, *descendants(pid)]) != tree:
        for one in found:
            send_signal(one, signal.SIGSTOP)
        tree = found
    for one in tree:
        send_signal(one, signal.SIGKILL)


def resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def proportional_bytes(pid: int) -> int:
    """Resident memory with shared pages split between their users; plain resident memory where a process hides it."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except OSError:
        return resident_bytes(pid)


def over_memory(pids: list[int], limit: int) -> bool:
    """Whether these processes hold more than `limit` bytes together."""
    # Plain resident memory counts a shared page once a process: enough to see that all is well, not to convict.
    return sum(map(resident_bytes, pids)) > limit and sum(map(proportional_bytes, pids)) > limit
