"""`envhub audit`: what a run's data say that no invariant forbids."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.markup import escape

from envhub.app import LOOP
from envhub.cli import options
from envhub.cli.output import count, facts, out, print_json
from envhub.cli.traces import existing_store
from envhub.contracts.ids import RunId
from envhub.engines.embedded import default_weights
from envhub.engines.in_process.scoring import Scorer
from envhub.monitor.audit import AuditReport
from envhub.monitor.audit import audit as audit_run
from envhub.monitor.audit_findings import Severity
from envhub.monitor.recompute import Recomputed, recompute

COLOURS = {Severity.INFO: "dim", Severity.WARNING: "yellow", Severity.SERIOUS: "red"}
THREADS = 2


def audit(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's id: what ids of rollouts begin with.")],
    url: Annotated[
        str, typer.Option(metavar="URL", help="Of the dashboard, before the page that each finding names.")
    ] = "http://127.0.0.1:8600",
    recomputed: Annotated[
        int,
        typer.Option("--recompute", metavar="N", help="Compute log probabilities of N rollouts again, by --weights."),
    ] = 0,
    weights: options.Weights = "",
    version: Annotated[
        int, typer.Option(metavar="N", help="Of --recompute: the policy version that these weights are.")
    ] = 0,
    database: options.Database = "envhub.db",
    as_json: options.AsJson = False,
) -> None:
    """Look for waste, bias and rewards that are not earned. Exit code 1 where something serious is found.

    Conservation, failures, staleness, length bias, groups without a difference, identical answers, tools never used,
    judges that disagree, reward that rises while length or another judge says otherwise. A finding is a hint: its page
    shows what is behind it.
    """
    report, again = anyio.run(_audit, database, RunId(run), recomputed, weights, version, backend_options=LOOP)
    if as_json:
        print_json({**asdict(report), "recomputed": asdict(again) if again else None})
    else:
        _show(report, again, url.rstrip("/"))
    sys.exit(int(any(finding.severity is Severity.SERIOUS for finding in report.findings)))


async def _audit(
    database: str, run_id: RunId, sample: int, weights: str, version: int
) -> tuple[AuditReport, Recomputed | None]:
    async with existing_store(database) as store:
        report = await audit_run(store, run_id)
        if not sample:
            return report, None
        scorer = Scorer(Path(weights) if weights else default_weights(), threads=THREADS)
        again = await recompute(
            store, run_id, scorer.logprobs, version=version, sample=sample, longest=scorer.context_tokens
        )
        return report, again


def _show(report: AuditReport, again: Recomputed | None, url: str) -> None:
    rows = [("looked at", f"{count(report.rollouts, 'rollout')}, and into {report.sampled:,}")]
    for finding in report.findings:
        colour = COLOURS[finding.severity]
        text = f"{escape(finding.message)}\n[dim]{escape(url + finding.page)}[/]"
        rows.append((f"[{colour}]{escape(finding.kind)}[/]", text))
    if not report.findings:
        rows.append(("found", "[green]nothing[/]"))
    if again:
        rows += _recomputed_rows(again, url)
    out.print(facts(rows))


def _recomputed_rows(again: Recomputed, url: str) -> list[tuple[str, str]]:
    metrics = again.metrics
    errors = f"error mean {again.mean_error:.2g}, max {again.max_error:.2g} nats"
    mismatch = f"k1 {metrics.k1:.2g}, k3 {metrics.k3:.2g}, ESS {metrics.ess:.4f}, max ratio {metrics.max_ratio:.3f}"
    return [
        ("recomputed", f"{again.tokens:,} tokens of {count(again.rollouts, 'rollout')}: {errors}"),
        ("", f"{mismatch}, perplexity ratio {metrics.ppl_ratio:.4f}"),
        ("", f"[dim]the largest error: {escape(url)}/rollouts/{escape(again.worst)}/tokens[/]"),
    ]
