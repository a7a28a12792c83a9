"""RunCheck: one run's data against the design's invariants.

The log is read once, from its first event to its last. In memory are the rollouts that ran at the same time, and a
number for each that ended.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from envhub.contracts.events import Event, GroupSubmitted, RolloutEnded, RolloutStarted, StepRecorded, TurnRecorded
from envhub.contracts.ids import GroupId, RolloutId, group_of
from envhub.contracts.rollout import RolloutRequest
from envhub.contracts.store import BrowsableStore, GroupSummary, RolloutSummary, RunSummary
from envhub.contracts.turn import Turn
from envhub.monitor.replay import Replay
from envhub.monitor.token_checks import Breach, file_breach, one_branch, row_breaches, turn_breaches
from envhub.store import summaries
from envhub.store.codec import decode
from envhub.tokens.rows import rows_of

FACTS = 2_000  # rollouts whose summaries are read at once
FEW, MANY = 64, 8_192  # events that are read at once,
BATCH_BYTES = 8 << 20  # or about as many bytes of them


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken invariant, by its number in the design."""

    invariant: int
    where: str  # the run, group or rollout
    message: str


@dataclass(frozen=True, slots=True)
class Verified:
    """What is known to hold of a run: its first `groups` groups, all of which have ended for good."""

    groups: int = 0
    place: int = 0  # of the log, before anything of the others
    rollout: int = 0  # the place of a rollout, before all of the others


@dataclass(slots=True)
class _Live:
    """A rollout that runs at this place of the log."""

    request: RolloutRequest
    summary: RolloutSummary
    turns: list[Turn] = field(default_factory=list)
    steps: set[int] = field(default_factory=set)


class RunCheck:
    """`run` checks it, and leaves what it found in `findings` and how much it looked at in `counts`."""

    def __init__(self, store: BrowsableStore, run: RunSummary, before: Verified, counts: Counter[str]) -> None:
        self.findings: list[Finding] = []
        self._store = store
        self._run = run
        self._before = before
        self._counts = counts
        self._replay = Replay(run if before.place else None)
        self._live: dict[RolloutId, _Live] = {}
        self._listed: dict[RolloutId, int] = {}  # rollouts that have ended by the tables: a hash of what these say
        self._unlisted: list[RolloutId] = []  # that have ended by the log, and had not by the tables
        self._other: dict[RolloutId, RolloutSummary] = {}  # of which the tables say other than the log, which says this
        self._strange: dict[RolloutId, str] = {}  # events of rollouts that don't run
        self._filed: list[TurnRecorded] = []  # of the events read just now, those with files of their tokens
        self._skipped: set[GroupId] = set()  # verified before
        self._begun: dict[GroupId, int] = {}  # where in the log it was submitted
        self._rollouts: dict[GroupId, int] = {}  # the place of its first rollout
        self._last = before  # where everything that was read ends

    async def run(self) -> None:
        run_id = self._run.run_id
        if not self._run.members.conserved:
            self._find(run_id, [(4, f"its members don't add up: {self._run.members.equation()}")])
        groups = await self._store.groups(run_id)
        self._skipped = {group.group_id for group in groups if group.number < self._before.groups}
        # The tables first: what ended by them is in the log, which is read then.
        await self._read_tables()
        await self._read_log()
        await self._compare_rollouts()
        for rollout_id in self._replay.orphans():
            self._find(rollout_id, [(4, "its parent has ended and it has not")])
        still = set(groups)
        for group in await self._store.groups(run_id):
            if group in still and group.group_id not in self._skipped:
                self._compare_group(group)

    def verified(self) -> Verified:
        """What is known to hold after this, where nothing was found."""
        groups = self._replay.state.groups.values()
        still = [group for group in groups if not all(state.final for state in group.members)]
        first = min((group.number for group in still), default=self._before.groups + len(groups))
        others = [group.group_id for group in groups if group.number >= first]
        return Verified(
            groups=first,
            place=min((self._begun[id] - 1 for id in others), default=self._last.place),
            rollout=min((self._rollouts[id] - 1 for id in others if id in self._rollouts), default=self._last.rollout),
        )

    async def _read_tables(self) -> None:
        after = self._before.rollout
        while facts := await self._store.facts(after, FACTS):
            after = facts[-1].place
            places = [one.place for one in facts if one.run_id == self._run.run_id]
            for place, rollout in zip(places, await self._store.rollouts_at(places), strict=True):
                self._rollouts.setdefault(rollout.group_id, place)
                if rollout.status is not None and rollout.group_id not in self._skipped:
                    self._listed[rollout.rollout_id] = hash(rollout)
        self._last = replace(self._last, rollout=after)

    async def _read_log(self) -> None:
        after, limit = self._before.place, FEW
        while events := await self._store.log(self._run.run_id, after, limit):
            for event in events:
                self._take(event.place, decode(event.kind, event.payload))
            await self._check_files()
            after = events[-1].place
            size = sum(len(event.payload) for event in events) / len(events)
            limit = max(FEW, min(MANY, int(BATCH_BYTES / (size + 1))))
        self._last = replace(self._last, place=after)

    def _take(self, place: int, event: Event) -> None:
        if self._skipped and self._is_verified(event):
            return
        self._counts["events"] += 1
        match event:
            case TurnRecorded() | StepRecorded():
                live = self._live.get(event.rollout_id)
                if live is None:
                    self._strange[event.rollout_id] = type(event).__name__
                elif isinstance(event, TurnRecorded):
                    live.turns.append(event.turn)
                    if event.turn.files:
                        self._filed.append(event)
                    live.summary = summaries.with_turn(live.summary, event)
                else:
                    self._take_step(live, event.step.index)
                return
            case RolloutStarted():
                self._start(event)
                return
            case RolloutEnded() if event.rollout_id in self._live:
                self._end(self._live.pop(event.rollout_id), event)
            case GroupSubmitted():
                self._begun[event.group_id] = place
        self._find(_name(event), self._replay.take(event))

    def _start(self, event: RolloutStarted) -> None:
        self._find(event.rollout_id, self._replay.take(event))
        known = self._replay.state.rollouts.get(event.rollout_id)
        self._live[event.rollout_id] = _Live(event.request, known or summaries.started(event))
        self._counts["rollouts"] += 1

    def _take_step(self, live: _Live, index: int) -> None:
        if index in live.steps:
            self._find(live.summary.rollout_id, [(4, f"step {index} is recorded twice")])
        live.steps.add(index)

    def _end(self, live: _Live, event: RolloutEnded) -> None:
        self._check_tokens(live)
        self._check_rewards(live, event)
        replayed = summaries.ended(live.summary, event)
        listed = self._listed.pop(event.rollout_id, None)
        if listed is None:
            self._unlisted.append(event.rollout_id)
        elif listed != hash(replayed):
            self._other[event.rollout_id] = replayed

    async def _check_files(self) -> None:
        filed, self._filed = self._filed, []
        for event in filed:
            for file in event.turn.files:
                breach = file_breach(event.turn, file, await self._store.file(file.sha256))
                self._find(event.rollout_id, [] if breach is None else [breach])

    def _check_tokens(self, live: _Live) -> None:
        turns = live.turns
        self._counts["turns"] += len(turns)
        self._counts["sampled_tokens"] += sum(len(turn.output_ids) for turn in turns)
        self._find(live.summary.rollout_id, self._token_breaches(turns, live.request))

    def _check_rewards(self, live: _Live, event: RolloutEnded) -> None:
        rewarded = {} if event.score is None else event.score.turn_rewards
        unknown = sorted(rewarded.keys() - {turn.index for turn in live.turns})
        if unknown:
            self._find(event.rollout_id, [(5, f"its score has a reward of turn {unknown[0]}, which is not recorded")])

    def _token_breaches(self, turns: Sequence[Turn], request: RolloutRequest) -> Sequence[Breach]:
        if any(turn.logprob_kind != "exact" for turn in turns):
            return ()  # an inexact engine's: exempt from 1 and 2, and no trainer gets its rows unasked
        if breaches := tuple(turn_breaches(turns, request)):
            return breaches
        if turns and one_branch(turns):
            self._counts["rows"] += 1
            self._counts["spans"] += sum(len(turn.spans) + (len(turn.delta_ids) > 0) for turn in turns)
            return ()
        rows = rows_of(turns)
        self._counts["rows"] += len(rows)
        self._counts["spans"] += sum(len(row.spans) for row in rows)
        return tuple(row_breaches(turns, rows))

    async def _compare_rollouts(self) -> None:
        """Those that run, that the tables don't have, or that the log does not."""
        for live in self._live.values():
            self._check_tokens(live)
        for rollout_id in self._listed:
            self._find(rollout_id, [(4, "it has ended by the tables, and by no event")])
        for rollout_id in self._unlisted:
            found = await self._store.rollout(rollout_id)
            if found is None or found.status is None:
                self._find(rollout_id, [(4, f"it has ended, and the tables say {found}")])
        for rollout_id, replayed in self._other.items():
            if rollout_id not in self._strange:
                listed = await self._store.rollout(rollout_id)
                self._find(rollout_id, [(4, f"the store has {listed}, its events lead to {replayed}")])
        for rollout_id, kind in self._strange.items():
            known = await self._store.rollout(rollout_id)
            said = f"{kind} after its end" if known and known.status else f"{kind} of a rollout that was not started"
            self._find(rollout_id, [(6 if known else 4, said)])

    def _compare_group(self, group: GroupSummary) -> None:
        replayed = self._replay.state.groups.get(group.group_id)
        if group != replayed:
            said = f"the store has {_states(group)}, its events lead to {_states(replayed)}"
            self._find(group.group_id, [(4, said)])

    def _is_verified(self, event: Event) -> bool:
        """Whether it is of a group that was verified before."""
        group_id = getattr(event, "group_id", None)
        if group_id is None and (rollout_id := getattr(event, "rollout_id", None)) is not None:
            group_id = group_of(rollout_id)
        return group_id in self._skipped

    def _find(self, where: str, breaches: Iterator[Breach] | Sequence[Breach]) -> None:
        self.findings += [Finding(invariant, where, message) for invariant, message in breaches]


def _name(event: Event) -> str:
    return str(getattr(event, "rollout_id", None) or getattr(event, "group_id", None) or event.run_id)


def _states(group: GroupSummary | None) -> str:
    if group is None:
        return "no such group"
    return f"members {', '.join(group.members)}, {group.deliveries} deliveries{', closed' if group.closed else ''}"
