"""`envhub profile`: where the time of a run went."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import typer

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, note, number, out, print_json, table
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.monitor.profile import Profile
from envhub.monitor.profile import profile as profile_run

SHOWN = 25  # lines
LEAST_SHARE = 0.0005


def profile(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id: what ids of rollouts begin with.")],
    trace: Annotated[
        Path | None,
        typer.Option("--trace", metavar="FILE", help="Also every phase, as JSON for Perfetto or chrome://tracing."),
    ] = None,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Show where the time of a run's rollouts went: engine, tools, judges, children, queue; and its stragglers.

    It reads what is recorded anyway, so it costs the run nothing, and may be asked while the run goes on.
    """
    found = anyio.run(_profile, database, RunId(run), trace, backend_options=LOOP)
    if as_json:
        print_json(asdict(found))
    else:
        _show(found)
    if trace:
        note(f"phases are in {trace}; open it in https://ui.perfetto.dev or chrome://tracing")


async def _profile(database: str, run_id: RunId, trace: Path | None) -> Profile:
    async with existing_store(database) as store:
        with ExitStack() as stack:
            try:
                file = stack.enter_context(trace.open("w", encoding="utf-8")) if trace else None
            except OSError as error:
                raise UsageError(f"can't write to '{trace}': {error.strerror}; name a file in a directory") from error
            return await profile_run(store, run_id, file)


def _show(found: Profile) -> None:
    lived = f"{number(found.seconds, 1)} s of rollouts in {number(found.wall_s, 1)} s"
    running = f", {found.running:,} of them running" if found.running else ""
    out.print(f"{count(found.rollouts, 'rollout')}{running}: {lived}, {number(found.parallel, 1)} at once\n")
    columns = ("where", "share", "seconds", "times", "p50 s", "p99 s", "max s", "what")
    rows = [
        (
            line.kind,
            f"{line.share:.1%}",
            number(line.seconds, 1),
            f"{line.count:,}",
            number(line.p50_s, 3),
            number(line.p99_s, 3),
            number(line.max_s, 3),
            line.name,
        )
        for line in found.lines[:SHOWN]
        if line.share >= LEAST_SHARE
    ]
    out.print(table(columns, rows, right=columns[1:7]))
    if found.stragglers:
        out.print("\n[bold]stragglers[/]  [dim]slower than 99 % of their environment's[/]")
        slow = ["rollout", "seconds", "typical", "mostly"]
        members = [
            (one.rollout_id, number(one.seconds, 1), number(one.typical_s, 1), f"{one.mostly} ({one.mostly_s:.1f} s)")
            for one in found.stragglers
        ]
        out.print(table(slow, members, right=slow[1:3]))
