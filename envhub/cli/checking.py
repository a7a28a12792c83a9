"""`envhub verify`: whether what was recorded holds."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, facts, note, out, print_json
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.contracts.store import BrowsableStore
from envhub.monitor.run_check import Verified
from envhub.monitor.verify import VerifyReport, verify_from
from envhub.store.address import beside

SHOWN = 20  # broken invariants
COUNTED = ("run", "rollout", "row", "span", "turn", "sampled_token", "event")


def verify(
    run: options.RunFilter = "",
    new: Annotated[
        bool, typer.Option("--new", help="Only what an earlier verify has not found to hold for good.")
    ] = False,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Check every recorded token, span and state. Exit code 1 where something is wrong.

    What holds for good is noted beside the database, in FILE.verified: with --new the next verify begins there.
    """
    report = anyio.run(_verify, database, RunId(run) if run else None, new, backend_options=LOOP)
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        _show(report)
    sys.exit(0 if report.ok else 1)


def _show(report: VerifyReport) -> None:
    counts = [count(getattr(report, f"{what}s"), what.replace("_", " ")) for what in COUNTED]
    rows = [("checked", ", ".join(counts))]
    for finding in report.findings[:SHOWN]:
        rows.append(("[red]broken[/]", escape(f"invariant {finding.invariant}, {finding.where}: {finding.message}")))
    if len(report.findings) > SHOWN:
        rows.append(("", f"[dim]and {len(report.findings) - SHOWN:,} more; --json gives all[/]"))
    broken = f"[red]{count(len(report.findings), 'broken invariant')}[/]"
    rows.append(("found", broken if report.findings else "[green]nothing[/]"))
    out.print(facts(rows))


async def _verify(database: str, run_id: RunId | None, new: bool) -> VerifyReport:
    notes = VerifiedNotes(beside(database, ".verified"))
    async with existing_store(database) as store:
        known = await notes.read(store) if new else {}
        report, verified = await verify_from(store, known, run_id)
        await notes.write(store, verified)
        return report


class VerifiedNotes:
    """What is known to hold of a database, in a file beside it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def read(self, store: BrowsableStore) -> dict[RunId, Verified]:
        """Of runs that are still the same: nothing where there is no such file."""
        try:
            noted = json.loads(await anyio.Path(self._file).read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        began = await _began(store)
        return {
            RunId(id): Verified(**entry["verified"])
            for id, entry in noted.items()
            if entry["started_at"] == began.get(RunId(id))
        }

    async def write(self, store: BrowsableStore, verified: dict[RunId, Verified]) -> None:
        began = await _began(store)
        noted = {id: {"started_at": began[id], "verified": asdict(one)} for id, one in verified.items() if id in began}
        try:
            await anyio.Path(self._file).write_text(json.dumps(noted), "utf-8")
        except OSError as error:
            note(f"what holds can't be noted in '{self._file}' ({error.strerror}); the next verify reads all again")


async def _began(store: BrowsableStore) -> dict[RunId, float]:
    return {run.run_id: run.started_at for run in await store.runs()}
