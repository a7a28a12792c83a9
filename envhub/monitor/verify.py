"""verify: whether a store's data hold the design's invariants."""

from collections import Counter
from dataclasses import dataclass

from envhub.contracts.ids import RunId
from envhub.contracts.store import BrowsableStore
from envhub.errors import UnknownName
from envhub.monitor.run_check import Finding, RunCheck, Verified


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """How much was checked, and what was found."""

    runs: int
    rollouts: int
    rows: int
    spans: int  # of the rows
    turns: int
    sampled_tokens: int
    events: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return not self.findings


async def verify(store: BrowsableStore, run_id: RunId | None = None) -> VerifyReport:
    """Checks invariants 1 to 6 and 9 on a run, or on all. A run that is being written to may be checked as well: what
    moved meanwhile is not compared.

    Raises:
        UnknownName: no such run.
        StoreError: an event can't be read.
    """
    report, _ = await verify_from(store, {}, run_id)
    return report


async def verify_from(
    store: BrowsableStore, verified: dict[RunId, Verified], run_id: RunId | None = None
) -> tuple[VerifyReport, dict[RunId, Verified]]:
    """The same, but for groups that an earlier call has verified; and what is verified by now. Where anything is
    broken, nothing more of its run is.

    Raises:
        UnknownName, StoreError: as of verify.
    """
    runs = await store.runs()
    chosen = [run for run in runs if run_id in (None, run.run_id)]
    if run_id is not None and not chosen:
        raise UnknownName.of("run", run_id, [run.run_id for run in runs], "envhub trace list")
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    known = dict(verified)
    for run in chosen:
        check = RunCheck(store, run, known.get(run.run_id, Verified()), counts)
        await check.run()
        findings += check.findings
        if not check.findings:
            known[run.run_id] = check.verified()
    names = ("rollouts", "rows", "spans", "turns", "sampled_tokens", "events")
    return VerifyReport(len(chosen), **{name: counts[name] for name in names}, findings=tuple(findings)), known
