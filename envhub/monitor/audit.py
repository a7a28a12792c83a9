"""audit: what a run's data say about the run that no invariant forbids: waste, bias, and rewards that are not earned.

A finding is a hint with a number and a page to look at, not a proof. Shares are of what the audit looked at: all
rollouts where a column suffices, SAMPLE spread over the run where their records have to be read.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from anyio.to_thread import run_sync

from envhub.contracts.events import RolloutEnded, TurnRecorded
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import BrowsableStore, RolloutSummary, RunSummary
from envhub.errors import UnknownName
from envhub.monitor.audit_columns import column_findings
from envhub.monitor.audit_findings import AuditFinding, Bounds, Severity, run_page
from envhub.monitor.audit_records import Sample, record_findings
from envhub.monitor.figures import Rows
from envhub.monitor.rollout_pages import Selection
from envhub.monitor.rollout_table import RolloutTable

SAMPLE = 2_000
READ_AT_ONCE = 200
USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What there is to look at in a run."""

    run_id: RunId
    rollouts: int
    sampled: int  # whose records were read
    findings: tuple[AuditFinding, ...]  # the most serious first


async def audit(
    store: BrowsableStore, run_id: RunId, bounds: Bounds = USUAL, *, table: RolloutTable | None = None
) -> AuditReport:
    """What is found in the run. `table` is one of this store that somebody keeps fresh; None: one of its own. What is
    counted is counted in threads, so that a live run goes on meanwhile.

    Raises:
        UnknownName: no such run.
    """
    runs = await store.runs()
    run = next((one for one in runs if one.run_id == run_id), None)
    if run is None:
        raise UnknownName.of("run", run_id, [one.run_id for one in runs], "envhub trace list")
    if table is None:
        table = RolloutTable(store)
        await table.refresh()
    rows = await run_sync(Selection(run=run_id).rows, table)
    sample = await _sample(store, run_id, table, rows)
    findings = await run_sync(_findings, run, table, rows, sample, bounds)
    return AuditReport(run_id, len(rows), len(sample.rollouts), tuple(findings))


def _findings(
    run: RunSummary, table: RolloutTable, rows: Rows, sample: Sample, bounds: Bounds
) -> Sequence[AuditFinding]:
    """The most serious first."""
    run_id = run.run_id
    parts = (_conservation(run), column_findings(table, rows, run_id, bounds), record_findings(sample, run_id, bounds))
    findings = [finding for part in parts for finding in part]
    order = list(Severity)[::-1]
    return sorted(findings, key=lambda finding: order.index(finding.severity))


def _conservation(run: RunSummary) -> Iterator[AuditFinding]:
    page = run_page(run.run_id)
    if not run.members.conserved:
        yield AuditFinding("conservation", Severity.SERIOUS, f"members don't add up: {run.members.equation()}", page)
    elif not run.members.drained:
        yield AuditFinding("conservation", Severity.INFO, f"not all have ended: {run.members.equation()}", page)


async def _sample(store: BrowsableStore, run_id: RunId, table: RolloutTable, rows: Rows) -> Sample:
    """Rollouts that ended, spread evenly over the run."""
    ended = rows[table["status"][rows] != 0]
    chosen = (
        ended[np.unique(np.linspace(0, len(ended) - 1, min(SAMPLE, len(ended))).astype(int))] if len(ended) else ended
    )
    rollouts: list[RolloutSummary] = []
    ends: dict[RolloutId, RolloutEnded] = {}
    for at in range(0, len(chosen), READ_AT_ONCE):
        some = await store.rollouts_at(table["place"][chosen[at : at + READ_AT_ONCE]].tolist())
        rollouts += some
        events = await store.events_of(run_id, [one.rollout_id for one in some], {RolloutEnded})
        ends |= {event.rollout_id: event for event in events if isinstance(event, RolloutEnded)}
    return Sample(rollouts[::-1], ends, await _tools(store, run_id, rollouts))


async def _tools(store: BrowsableStore, run_id: RunId, rollouts: Sequence[RolloutSummary]) -> dict[str, set[str]]:
    """What a rollout of each environment was offered."""
    examples = {one.environment: one.rollout_id for one in rollouts if one.turns}
    events = await store.events_of(run_id, list(examples.values()), {TurnRecorded})
    environments = {rollout_id: environment for environment, rollout_id in examples.items()}
    tools: dict[str, set[str]] = defaultdict(set)
    for event in events:
        if isinstance(event, TurnRecorded):
            tools[environments[event.rollout_id]] |= set(event.turn.tools)
    return tools
