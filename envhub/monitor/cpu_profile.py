"""cpu_profile: where the event loop's thread spends its CPU time, by plug-in and by room of the platform.

Taken while a run goes on: a second thread looks at the loop's stack every LOOK_S. The CPU time of the loop's thread is
shared out by how often each was found there; the event loop's own part is in all of them. Worker processes have loops
of their own, which it does not see.
"""

import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import anyio
import msgspec
from anyio.to_thread import run_sync

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.monitor.culprit import culprit
from envhub.monitor.loop_lag import cpu_clock

LOOK_S = 0.01
LONGEST_S = 600.0
SWITCH_S = 0.001  # between threads meanwhile: with the usual 5 ms it would mostly see a loop that waits
LOOP = ("asyncio.base_events", "asyncio.runners")  # beyond which is who started it
ROOMS = ("envhub.", "judges.", "sandboxes.")  # beginnings of the names of our modules


@dataclass(frozen=True, slots=True)
class CpuLine:
    """What one plug-in, or one room of the platform, computed."""

    who: str
    cpu_s: float
    share: float  # of the thread's CPU time
    mostly: str  # the function of ours, or of the plug-in, that was found there most


@dataclass(frozen=True, slots=True)
class CpuProfile:
    """Of the event loop's thread."""

    run_id: RunId
    at: float  # when it began, seconds since the epoch
    wall_s: float
    cpu_s: float
    looks: int
    overhead_s: float  # CPU time of looking
    lines: tuple[CpuLine, ...]  # the most first


class CpuProfiler:
    """Takes profiles of the loop that it is made on, one at a time; the newest is kept in a file."""

    def __init__(self, run_id: RunId, file: Path) -> None:
        self._run_id = run_id
        self._file = file
        self._thread = threading.get_ident()
        self._cpu_s = cpu_clock()
        self._taking = False

    async def take(self, seconds: float) -> CpuProfile:
        """Of so many seconds from now on. Cancelled, it keeps none.

        Raises:
            UsageError: not within LONGEST_S, or another one is being taken.
        """
        if not 0 < seconds <= LONGEST_S:
            raise UsageError(f"a profile can't take {seconds:g} s; it must be more than 0 and at most {LONGEST_S:g}")
        if self._taking:
            raise UsageError("a profile is being taken already; ask again when it has ended")
        self._taking, stop = True, threading.Event()
        try:
            found = await run_sync(self._look, seconds, stop, abandon_on_cancel=True)
        finally:
            stop.set()
            self._taking = False
        await anyio.Path(self._file).write_bytes(msgspec.json.encode(found))
        return found

    def _look(self, seconds: float, stop: threading.Event) -> CpuProfile:
        began, at, own, first = time.monotonic(), time.time(), time.thread_time(), self._cpu_s()
        seen: dict[str, Counter[str]] = defaultdict(Counter)  # in which functions who was
        looks = 0
        usual = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_S)
        try:
            while time.monotonic() - began < seconds and not stop.wait(LOOK_S):
                looks += 1
                frame = sys._current_frames().get(self._thread)
                if frame is not None and (found := _found(frame)) is not None:
                    who, place = found
                    seen[who][place] += 1
        finally:
            sys.setswitchinterval(usual)
        cpu_s = self._cpu_s() - first
        return CpuProfile(
            run_id=self._run_id,
            at=at,
            wall_s=time.monotonic() - began,
            cpu_s=cpu_s,
            looks=looks,
            overhead_s=time.thread_time() - own,
            lines=tuple(_lines(seen, cpu_s)),
        )


def profile_file(database: Path, run_id: RunId) -> Path:
    """Where the newest profile of that run is kept, beside its database."""
    return Path(f"{database}.{quote(run_id, safe='')}.profile")


def read_cpu_profile(file: Path) -> CpuProfile | None:
    """None: none was taken.

    Raises:
        UsageError: the file is none of ours.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=CpuProfile)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise UsageError(f"'{file}' can't be read as a profile: {error}; take a new one, or remove it") from error


def _lines(seen: Mapping[str, Counter[str]], cpu_s: float) -> Iterator[CpuLine]:
    """The most first."""
    total = sum(places.total() for places in seen.values())
    for who, places in sorted(seen.items(), key=lambda item: -item[1].total()):
        share = places.total() / total
        yield CpuLine(who, share * cpu_s, share, places.most_common(1)[0][0])


def _found(innermost: FrameType) -> tuple[str, str] | None:
    """Who is on the stack, and in which function; None: nobody but the event loop, which mostly waits."""
    to_blame = culprit(innermost)
    if to_blame is not None:
        return str(to_blame), to_blame.where
    frame: FrameType | None = innermost
    while frame is not None:
        module: str = frame.f_globals.get("__name__", "")
        if module.startswith(ROOMS):
            return ".".join(module.split(".")[:2]), f"{module}.{frame.f_code.co_qualname}"
        frame = None if module in LOOP else frame.f_back
    return None
