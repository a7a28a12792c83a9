"""Progress of a run: a bar an environment, on stderr; a plain line now and then where stderr is no terminal."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from envhub.cli.output import err, note, number
from envhub.cli.tally import Tally
from envhub.contracts.events import Event, RolloutEnded
from envhub.rollouts.job import Job

LINE_EVERY_S = 10.0


class RunProgress:
    """Shows a tally as it grows. Feed it every event."""

    def __init__(self, bars: Progress) -> None:
        self.tally = Tally()
        self._bars = bars
        self._opening = bars.add_task("loading the model", total=None, reward="–", rate="–")
        self._tasks: dict[str, TaskID] = {}
        self._line_at = time.monotonic()

    def expect(self, job: Job | None) -> None:
        """Makes a bar for each environment of the job."""
        self._bars.remove_task(self._opening)
        if job is not None:
            for name in job.environments:
                self._tasks[name] = self._bars.add_task(name, total=job.groups * job.k, reward="–", rate="–")

    def take(self, event: Event) -> None:
        self.tally.take(event)
        if isinstance(event, RolloutEnded):
            self._show()

    def _show(self) -> None:
        for name, task in self._tasks.items():
            line = self.tally.lines.get(name)
            if line is not None:
                rate = number(line.tokens_per_s, 0)
                self._bars.update(task, completed=line.rollouts, reward=number(line.mean_reward), rate=rate)
        if not err.is_terminal and time.monotonic() - self._line_at > LINE_EVERY_S:
            self._line_at = time.monotonic()
            total = self.tally.total()
            note(f"{total.rollouts} rollouts, {total.tokens:,} tokens, {number(total.tokens_per_s, 0)} tokens/s")


@contextmanager
def run_progress() -> Iterator[RunProgress]:
    """Bars for a run that is about to be opened."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn("reward {task.fields[reward]}"),
        TextColumn("{task.fields[rate]} tokens/s"),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
    )
    with bars:
        yield RunProgress(bars)
