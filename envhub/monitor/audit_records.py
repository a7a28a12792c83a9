"""What the records of a sample of rollouts say: repeated answers, tools never used, judges that disagree."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from envhub.contracts.events import RolloutEnded
from envhub.contracts.ids import RolloutId, RunId
from envhub.contracts.store import RolloutSummary
from envhub.monitor.agreement import judge_agreement
from envhub.monitor.audit_findings import (
    LEAST,
    AuditFinding,
    Bounds,
    Severity,
    environment_page,
    mean,
    overview_page,
    rollout_page,
)

MOST_ANSWERS = 3  # of one environment that are told


@dataclass(frozen=True, slots=True)
class Sample:
    """Rollouts whose records were read, newest first."""

    rollouts: Sequence[RolloutSummary]
    ends: dict[RolloutId, RolloutEnded]
    tools: dict[str, set[str]]  # that were offered, by environment


def record_findings(sample: Sample, run_id: RunId, bounds: Bounds) -> Iterator[AuditFinding]:
    """What only the records tell."""
    yield from _repeated_answers(sample, bounds)
    yield from _unused_tools(sample)
    yield from _judges(sample, bounds)
    yield from _held_out(sample, run_id)


def _repeated_answers(sample: Sample, bounds: Bounds) -> Iterator[AuditFinding]:
    """The same words to different tasks, and paid."""
    tasks: dict[tuple[str, str], dict[str, list[RolloutSummary]]] = defaultdict(lambda: defaultdict(list))
    answered: Counter[str] = Counter()
    for one in sample.rollouts:
        end = sample.ends.get(one.rollout_id)
        if end and end.response and one.is_try:
            answered[one.environment] += 1
            tasks[one.environment, end.response][one.task_id].append(one)
    shown: Counter[str] = Counter()
    for (environment, text), by_task in sorted(tasks.items(), key=lambda item: -len(item[1])):
        same = [one for some in by_task.values() for one in some]
        share = len(same) / answered[environment]
        enough = len(by_task) > 2 and answered[environment] >= LEAST and shown[environment] < MOST_ANSWERS
        if enough and share > bounds.repeated_answers:
            shown[environment] += 1
            reward = mean([one.reward for one in same if one.reward is not None])
            severity = Severity.SERIOUS if reward > 0.5 else Severity.INFO
            said = text if len(text) < 60 else f"{text[:57]}..."
            message = (
                f"{len(same)} rollouts of {len(by_task)} tasks of {environment} gave the very same answer, {said!r}, "
                f"worth {reward:.2f} on average"
            )
            yield AuditFinding("identical answers", severity, message, rollout_page(same[0].rollout_id), share)


def _unused_tools(sample: Sample) -> Iterator[AuditFinding]:
    calls: dict[str, list[int]] = defaultdict(list)
    for one in sample.rollouts:
        end = sample.ends.get(one.rollout_id)
        if end and end.score:
            calls[one.environment].append(end.usage.tool_calls)
    for environment, counts in calls.items():
        tools = sample.tools.get(environment)
        if tools and len(counts) >= LEAST and not any(counts):
            message = f"{environment} offers {', '.join(sorted(tools))}, and none of {len(counts)} rollouts called any"
            yield AuditFinding("tools never used", Severity.WARNING, message, environment_page(environment))


def _judges(sample: Sample, bounds: Bounds) -> Iterator[AuditFinding]:
    scores: dict[str, list[dict[str, float]]] = defaultdict(list)
    for one in sample.rollouts:
        end = sample.ends.get(one.rollout_id)
        if end and end.score:
            scores[one.environment].append(dict(end.score.components))
    for environment, components in scores.items():
        for pair in judge_agreement(components):
            if pair.rollouts >= LEAST and pair.agreement < bounds.agreement:
                message = f"{pair.a} and {pair.b} of {environment} agree on {pair.agreement:.0%} of {pair.rollouts}"
                page = environment_page(environment)
                yield AuditFinding("judge disagreement", Severity.WARNING, message, page, pair.agreement)


def _held_out(sample: Sample, run_id: RunId) -> Iterator[AuditFinding]:
    """A component that falls while the reward rises: it is of a judge whom nobody optimised for."""
    scored = [(one.version_max, sample.ends[one.rollout_id].score) for one in reversed(sample.rollouts)
              if one.rollout_id in sample.ends]  # fmt: skip
    scores = [score for _, score in sorted(scored, key=lambda pair: pair[0]) if score]
    third = len(scores) // 3
    if third < LEAST:
        return
    first, last = scores[:third], scores[-third:]
    rise = mean([score.scalar for score in last]) - mean([score.scalar for score in first])
    for name in first[0].components:
        values = [[score.components[name] for score in part if name in score.components] for part in (first, last)]
        fall = mean(values[0]) - mean(values[1]) if all(values) else 0.0
        if rise > 0.05 and fall > 0.05:
            message = (
                f"reward rose by {rise:.2f} from the oldest to the newest versions while {name} fell by {fall:.2f}"
            )
            page = overview_page(run_id)
            yield AuditFinding("reward against a judge", Severity.SERIOUS, message, page, -fall)
