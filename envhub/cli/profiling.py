"""`envhub profile`: where the time of a run went."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, note, number, out, print_json, table
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.monitor.cpu_profile import CpuProfile, profile_file, read_cpu_profile
from envhub.monitor.profile import Profile
from envhub.monitor.profile import profile as profile_run
from envhub.store.address import beside

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

    It reads what is recorded anyway, so it costs the run nothing, and may be asked while the run goes on. Where the
    platform's CPU time went is shown beside it once an operator had that profiled: POST /api/runs/RUN/profile.
    """
    found = anyio.run(_profile, database, RunId(run), trace, backend_options=LOOP)
    cpu = read_cpu_profile(profile_file(beside(database, ""), RunId(run)))
    if as_json:
        print_json({**asdict(found), "cpu": asdict(cpu) if cpu else None})
    else:
        _show(found)
        if cpu:
            _show_cpu(cpu)
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


def _show_cpu(cpu: CpuProfile) -> None:
    busy = f"{number(cpu.cpu_s, 2)} s of CPU in {number(cpu.wall_s, 1)} s"
    out.print(f"\n[bold]event loop[/]  {busy}  [dim]looking took {number(cpu.overhead_s, 3)} s[/]")
    columns = ("who", "share", "CPU s", "mostly in")
    rows = [(escape(line.who), f"{line.share:.1%}", number(line.cpu_s, 2), escape(line.mostly)) for line in cpu.lines]
    out.print(table(columns, rows[:SHOWN], right=columns[1:3]))
