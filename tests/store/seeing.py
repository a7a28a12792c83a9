"""Runs whose rollouts look at pictures: payloads of any size, some of them shared."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from envhub.contracts.events import Event
from envhub.contracts.files import FileBytes
from envhub.contracts.ids import RunId
from envhub.contracts.messages import Image, Message
from envhub.store.payloads.packing import LARGE_BYTES
from envhub.testing.traces import SampleRun, sample_turn


def picture(content: str, size: int = LARGE_BYTES + 1) -> Image:
    """A picture whose file has so many bytes, and no others have."""
    data = FileBytes(content.encode().ljust(size, b"."))
    return Image(sha256(data).hexdigest(), "image/png", 4, 4, 0, data)


def group_that_sees(run_id: RunId, number: int, *pictures: Image, begins: bool = True) -> list[Event]:
    """A group of one member, whose try is shown these pictures and ends; with `begins` the run's first events, too."""
    run = SampleRun(run_id)
    start = run.start(number, 0)
    seen = replace(Message.user("Look."), images=pictures)
    turn = run.turn(start, replace(sample_turn(0), messages=(seen,)))
    first = [run.started()] if begins else []
    group = [run.submitted(number, k=1), start, turn, run.end(start), run.closed(number, 0), run.acked(number)]
    return [*first, *group]


def files_in(folder: Path) -> list[Path]:
    """All, of sub-folders too."""
    return [path for path in folder.rglob("*") if path.is_file()]


def names_in(folder: Path) -> set[str]:
    """Of these files."""
    return {file.name for file in files_in(folder)}
