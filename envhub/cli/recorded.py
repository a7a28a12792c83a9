"""RecordedRollout: one rollout as its events tell it, for a person or a program."""

import json
from dataclasses import dataclass

import msgspec
from rich.markup import escape

from envhub.cli.export import row_json
from envhub.cli.output import facts, number, out
from envhub.contracts.events import Event, RolloutEnded, StepRecorded, TurnRecorded
from envhub.contracts.ids import RolloutId
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.store import RolloutQuery, RolloutSummary, TraceStore
from envhub.contracts.turn import Turn
from envhub.errors import UsageError
from envhub.tokens.rows import trajectory


@dataclass(frozen=True, slots=True)
class RecordedRollout:
    """One rollout."""

    summary: RolloutSummary
    children: tuple[RolloutSummary, ...]
    turns: tuple[Turn, ...]
    last_observation: tuple[Message, ...]  # what came after the last turn, and no turn has read
    end: RolloutEnded | None  # None: it runs

    def as_json(self) -> dict[str, object]:
        score = self.end and self.end.score
        failure = self.end and self.end.failure
        return {
            "rollout_id": self.summary.rollout_id,
            "environment": self.summary.environment,
            "task_id": self.summary.task_id,
            "parent": self.summary.parent,
            "children": [child.rollout_id for child in self.children],
            "status": self.summary.status,
            "truncated_by": self.summary.truncated_by,
            "reward": self.summary.reward,
            "components": dict(score.components) if score else {},
            "explanation": score.explanation if score else "",
            "failure": f"{failure.boundary}: {failure.message}" if failure else None,
            "messages": msgspec.to_builtins(self._messages()),
            "rows": [row_json(row) for row in trajectory(self.turns).rows],
        }

    def show(self, *, tokens: bool) -> None:
        summary = self.summary
        above = f", started by {escape(summary.parent)}" if summary.parent else ""
        out.print(
            f"[bold]{escape(summary.rollout_id)}[/]  {escape(summary.environment)}, task {summary.task_id}{above}"
        )
        for turn in self.turns:
            _show_messages(turn.messages)
            _show_turn(turn, tokens=tokens)
        _show_messages(self.last_observation)
        for child in self.children:
            out.print(f"  [magenta]child[/]  {escape(child.rollout_id)}  {_ending(child)}")
        out.print(f"[bold]{_ending(summary)}[/]")
        why = self.end and (self.end.failure or self.end.score)
        if why:
            out.print(f"  [dim]{escape(getattr(why, 'message', '') or getattr(why, 'explanation', ''))}[/]")

    def _messages(self) -> list[Message]:
        said = [message for turn in self.turns for message in (*turn.messages, turn.response)]
        return [*said, *self.last_observation]


async def recorded_rollout(store: TraceStore, id: RolloutId) -> RecordedRollout:
    """
    Raises:
        UsageError: the store has no such rollout.
    """
    summary = await store.rollout(id)
    if summary is None:
        raise UsageError(f"no rollout '{id}' in this database; `envhub trace list` shows them")
    tree = await store.rollouts(RolloutQuery(root=id, limit=1000))
    children = tuple(child for child in tree.rollouts if child.parent == id)
    events = [event async for event in store.events(summary.run_id, id)]
    turns = tuple(event.turn for event in events if isinstance(event, TurnRecorded))
    end = next((event for event in events if isinstance(event, RolloutEnded)), None)
    return RecordedRollout(summary, children, turns, _last_observation(events), end)


def _last_observation(events: list[Event]) -> tuple[Message, ...]:
    observation: tuple[Message, ...] = ()
    for event in events:
        if isinstance(event, StepRecorded):
            observation = event.step.observation
        elif isinstance(event, TurnRecorded):
            observation = ()
    return observation


def _show_messages(messages: tuple[Message, ...]) -> None:
    for message in messages:
        out.print(facts([(f"  [cyan]{message.role:9}[/]", escape(_text(message)))]))


def _show_turn(turn: Turn, *, tokens: bool) -> None:
    versions = ", ".join(sorted({str(span.policy_version) for span in turn.spans}))
    about = f"{len(turn.delta_ids)} tokens in, {len(turn.output_ids)} sampled by policy version {versions}"
    rows = [
        ("  [green]assistant[/]", escape(_text(turn.response))),
        ("", f"[dim]turn {turn.index}: {about}; {turn.finish}[/]"),
    ]
    if tokens:
        pairs = zip(turn.output_ids.tolist(), turn.logprobs.tolist(), strict=True)
        rows.append(("", "[dim]" + "  ".join(f"{id}:{logprob:.3f}" for id, logprob in pairs) + "[/]"))
    out.print(facts(rows))


def _text(message: Message) -> str:
    return "\n".join(part for part in (message.content, *map(_call, message.tool_calls)) if part)


def _call(call: ToolCall) -> str:
    arguments = [f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.arguments.items()]
    return f"{call.name}({call.error or ', '.join(arguments)})"


def _ending(summary: RolloutSummary) -> str:
    status = summary.status or "running"
    cause = f" ({summary.failure or summary.truncated_by})" if summary.failure or summary.truncated_by else ""
    return f"{status}{cause}, reward {number(summary.reward)}"
