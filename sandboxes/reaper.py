# ruff: noqa: PTH106, PTH112, PTH116, PTH118, PTH119, PTH120, PTH123, PTH208, SIM105
# Without pathlib and contextlib, which would double its start-up time.
"""The reaper: a small process that removes what its owner's sandboxes left, once the owner is dead, and at its start
what other dead owners left.

It runs on the standard library alone, holds nothing of its owner's, and does nothing until a process has died.
"""

from __future__ import annotations

import os
import select
import signal
import time

from sandboxes.inside.files import remove_tree
from sandboxes.inside.processes import send_signal
from sandboxes.owner import LABEL, alive, lock

STARTED_S = 60.0  # by then an owner that is starting has its folder
TRIES, PAUSE_S = 100, 0.1  # a process that the kernel does not let go is left to the next start


def main(folder: str, owner: str) -> None:
    """Runs until that owner's folder is gone."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    sweep(os.path.dirname(folder))
    await_end(int(owner))
    clear(folder)


def await_end(owner: int) -> None:
    """Returns once our parent has ended."""
    try:
        fd = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while os.getppid() == owner:  # otherwise it ended before we looked, and the id may be another's by now
        poll.poll()


def sweep(root: str) -> None:
    """Clears up after every dead owner below `root`."""
    for name in os.listdir(root):
        folder = os.path.join(root, name)
        if name.startswith("."):
            forget(folder)
        elif not alive(folder):
            clear(folder)


def forget(folder: str) -> None:
    """Removes what an owner leaves that is killed before its folder has its name: it is empty, and nobody's."""
    try:
        if os.stat(folder).st_mtime < time.time() - STARTED_S:
            os.rmdir(folder)
    except OSError:
        pass


def clear(folder: str) -> None:
    """Ends and removes everything that carries the name of that folder's owner; the folder goes last, so that what
    could not be removed now is found again at the next start."""
    claim = lock(folder)
    if claim is None and not os.path.isdir(folder):
        return
    for _ in range(TRIES):
        if cleared(folder):
            break
        time.sleep(PAUSE_S)
    if claim is not None:
        os.close(claim)


def cleared(folder: str) -> bool:
    """Whether nothing is left after one more try."""
    owner, noted = os.path.basename(folder), notes(folder)
    left = kill_labelled(owner)
    for cgroup in noted.get("cgroup", []):
        left += remove_cgroup(cgroup)
    for engine in noted.get("engine", []):
        left += remove_containers(engine, owner)
    if left:
        return False
    unmount_below(folder)
    remove_tree(folder)
    return not os.path.isdir(folder)


def unmount_below(folder: str) -> None:
    """Lets go of what was mounted there for a container that did not come to have it (see docker_fork.py)."""
    with open("/proc/self/mounts") as file:
        targets = [line.split()[1].replace("\\040", " ") for line in file]
    for target in reversed(targets):
        if target.startswith(f"{folder}/"):
            from sandboxes.inside.zygote_calls import unmount  # ctypes takes 10 ms to import

            unmount(target)


def notes(folder: str) -> dict[str, list[str]]:
    """What the owner noted (State.note): values by kind."""
    found: dict[str, list[str]] = {}
    try:
        with open(os.path.join(folder, "notes")) as file:
            lines = file.read().splitlines()
    except OSError:
        return found
    for line in lines:
        kind, _, value = line.partition(" ")
        found.setdefault(kind, []).append(value)
    return found


def kill_labelled(owner: str) -> int:
    """Kills the processes whose environment names a sandbox of that owner; returns how many there were."""
    mark, killed = f"{LABEL}={owner}.".encode(), 0
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{int(entry)}/environ", "rb") as file:
                environ = file.read()
        except (ValueError, OSError):  # no process, another user's, or gone
            continue
        if environ.startswith(mark) or b"\0" + mark in environ:
            send_signal(int(entry), signal.SIGKILL)
            killed += 1
    return killed


def remove_cgroup(path: str) -> int:
    """Kills what is in a cgroup and below and removes it; returns 1 where it is still there."""
    for folder, _, _ in os.walk(path):
        write(os.path.join(folder, "freezer.state"), "FROZEN")  # version 1: none forks while the others are killed
        write(os.path.join(folder, "cgroup.kill"), "1")
        for pid in members(folder):
            send_signal(pid, signal.SIGKILL)
        write(os.path.join(folder, "freezer.state"), "THAWED")  # and none dies before
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:
            pass
    return int(os.path.isdir(path))


def members(cgroup: str) -> list[int]:
    try:
        with open(os.path.join(cgroup, "cgroup.procs")) as file:
            return [int(line) for line in file if int(line) > 0]  # 0: in a pid namespace that we don't see
    except OSError:
        return []


def write(path: str, text: str) -> None:
    """Writes to a control file where there is one."""
    try:
        with open(path, "r+") as file:
            file.write(text)
    except OSError:
        pass


def remove_containers(engine: str, owner: str) -> int:
    """Removes the containers with the owner's label by force; returns how many there were, 1 where the engine does not
    answer: it may know of some once it runs again. Where its socket is gone, none runs."""
    from sandboxes.docker.engine_socket import Engine  # HTTP takes 20 ms to import, which only containers need

    try:
        return Engine(engine).remove_labelled(f"envhub.owner={owner}")
    except FileNotFoundError:
        return 0
    except OSError:
        return 1
