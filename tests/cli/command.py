"""The `envhub` command as tests call it: in this process where that will do, as a program where it matters."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import anyio

from envhub.app import stored_members
from envhub.contracts.ids import RunId
from envhub.contracts.members import MemberCounts
from envhub.errors import UsageError

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("envhub"))
WORLDS = str(Path(__file__).with_name("worlds.py"))
TRAINER = f"{sys.executable} {ROOT}/docs/examples/trainer_client.py"
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command: TypeAlias = Callable[..., Answer]


@dataclass(frozen=True, slots=True)
class Program:
    """The command while it runs."""

    process: subprocess.Popen[str]

    def line(self) -> str:
        """The next line on stdout; empty at its end."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def interrupt(self) -> Answer:
        """Presses Ctrl-C; what it gave from the last line read on."""
        self.process.send_signal(signal.SIGINT)
        return self.end()

    def end(self) -> Answer:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Answer(self.process.returncode, out, err)


@contextmanager
def started(directory: Path, *arguments: str) -> Iterator[Program]:
    """The command as a program of its own, in a directory; killed at the end if it still runs."""
    pipe = subprocess.PIPE
    with subprocess.Popen([PROGRAM, *arguments], cwd=directory, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def members(database: Path, run_id: str) -> MemberCounts:
    """Where the members of a run are."""
    return anyio.run(stored_members, str(database), RunId(run_id))


def wait_for(database: Path, run_id: str, condition: Callable[[MemberCounts], bool]) -> None:
    """Waits until the members of a run that another process plays meet a condition."""
    give_up_at = time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up_at:
        try:
            if condition(members(database, run_id)):
                return
        except (UsageError, StopIteration, RuntimeError):  # no database yet, or no run in it
            pass
        time.sleep(0.05)
    raise TimeoutError(f"run '{run_id}' did not get there in {PATIENCE_S:g} s")
