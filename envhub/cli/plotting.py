"""`envhub plot`: curves over policy versions and histograms, in the terminal or as a PNG."""

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import anyio
import typer

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.curves import bar, sparkline
from envhub.cli.output import note, number, out, table
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.errors import UnknownName, UsageError
from envhub.monitor.figures import Histogram, VersionPoint, histogram, version_points
from envhub.monitor.rollout_pages import Selection
from envhub.monitor.rollout_table import RolloutTable

CURVES = ("mean_reward", "pass_rate", "mean_tokens", "mean_turns")
BAR = 40  # characters


class Column(StrEnum):
    """What a histogram is of."""

    REWARD = "reward"
    SAMPLED_TOKENS = "sampled_tokens"
    TURNS = "turns"


def plot(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id: what ids of rollouts begin with.")],
    environment: Annotated[
        str, typer.Option(metavar="ENVIRONMENT", help="Only this environment.", show_default=False)
    ] = "",
    of: Annotated[Column, typer.Option("--histogram", help="What the histogram is of.")] = Column.REWARD,
    pass_at: Annotated[float, typer.Option(metavar="REWARD", help="From which reward on a rollout passes.")] = 1.0,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Draw into a picture instead; needs matplotlib.")
    ] = None,
    database: options.Database = "envhub.db",
) -> None:
    """Draw reward, pass rate and length over policy versions, and a histogram."""
    selection = Selection(run=run, environments=[environment] if environment else (), roots_only=True)
    points, counts = anyio.run(_figures, database, RunId(run), selection, of, pass_at, backend_options=LOOP)
    if not points:
        raise UsageError(f"run '{run}' has no rollout of '{environment}' that sampled anything; `envhub trace list`")
    if png:
        _draw(points, counts, of, png)
        note(f"drawn into {png}")
    else:
        _show(points, counts, of)


async def _figures(
    database: str, run_id: RunId, selection: Selection, of: Column, pass_at: float
) -> tuple[Sequence[VersionPoint], Histogram]:
    async with existing_store(database) as store:
        runs = [run.run_id for run in await store.runs()]
        if run_id not in runs:
            raise UnknownName.of("run", run_id, runs, "envhub trace list")
        table = RolloutTable(store)
        await table.refresh()
        rows = selection.rows(table)
        return version_points(table, rows, pass_at), histogram(table[of][rows])


def _show(points: Sequence[VersionPoint], counts: Histogram, of: Column) -> None:
    first, last = points[0].version, points[-1].version
    rows = []
    for name in CURVES:
        values = _values(points, name)
        known = [value for value in values if not math.isnan(value)]
        low, high = (min(known), max(known)) if known else (None, None)
        rows.append((name.replace("_", " "), number(low), number(high), number(values[-1]), sparkline(values)))
    columns = ("", "lowest", "highest", "newest", f"versions {first} to {last}")
    out.print(table(columns, rows, right=columns[1:4]))
    most = max(counts.counts, default=1)
    bars = [
        (f"{low:,.4g} to {high:,.4g}", f"{count:,}", bar(count / most, BAR))
        for low, high, count in zip(counts.edges, counts.edges[1:], counts.counts, strict=False)
    ]
    out.print()
    out.print(table((str(of), "rollouts", ""), bars, right=(str(of), "rollouts")))


def _draw(points: Sequence[VersionPoint], counts: Histogram, of: Column, file: Path) -> None:
    """
    Raises:
        UsageError: matplotlib is absent, or the file can't be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("a picture needs matplotlib; `pip install envhub-rl[plot]`, or leave --png out") from error
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    axes = figure.subplots(2, 3).flat
    versions = [point.version for point in points]
    for name, axis in zip(CURVES, axes, strict=False):
        axis.plot(versions, _values(points, name), marker="." if len(points) < 40 else "")
        axis.set_title(name.replace("_", " "))
        axis.set_xlabel("policy version")
        axis.grid(alpha=0.3)
    figure.axes[4].stairs(counts.counts, counts.edges, fill=True)
    figure.axes[4].set_title(f"{of.replace('_', ' ')}, rollouts")
    figure.axes[5].bar(versions, [point.rollouts for point in points])
    figure.axes[5].set_title("rollouts of each version")
    try:
        figure.savefig(file, dpi=120)
    except (OSError, ValueError) as error:
        raise UsageError(f"can't draw into '{file}': {error}; name a .png file in a directory") from error


def _values(points: Sequence[VersionPoint], name: str) -> list[float]:
    return [math.nan if (value := getattr(point, name)) is None else value for point in points]
