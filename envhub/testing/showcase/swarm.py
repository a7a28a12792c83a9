"""A swarm: one orchestrator and all that it started, four below each, on five levels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from envhub.contracts.events import Event
from envhub.contracts.ids import RolloutId, child_rollout_id
from envhub.contracts.messages import Message
from envhub.contracts.score import Score
from envhub.testing.showcase.special import call, prose
from envhub.testing.showcase.writer import Writer

FAN_OUT, LEVELS = 4, 5  # 1 + 4 + 16 + 64 + 256 = 341 rollouts
Begin = Callable[[float, RolloutId, RolloutId | None, RolloutId], Writer]


def swarm(root: Writer, begin: Begin) -> Iterator[list[Event]]:
    """The events of the whole tree, in the order of time."""
    events = _grow(root, begin, LEVELS - 1)
    yield sorted(events, key=lambda event: event.at)


def _grow(writer: Writer, begin: Begin, levels: int) -> list[Event]:
    """What `writer` does, and what those do that it starts: it plans, waits for them and sums up."""
    prompt: Sequence[Message] = writer.start.request.task.prompt
    events: list[Event] = []
    finished = 0
    if levels:
        calls = tuple(call(n, "delegate", task=f"part {n} of {writer.id}") for n in range(FAN_OUT))
        plan = writer.turn(prompt, Message.assistant(f"I split this into {FAN_OUT} parts.", calls))
        began = writer.now
        children = []
        for n in range(FAN_OUT):
            child = begin(began + 0.15 * n, child_rollout_id(writer.id, n), writer.id, writer.start.root)
            events += _grow(child, begin, levels - 1)
            children.append(child)
        slowest = max(child.now for child in children)
        answers = tuple(Message.tool(f"part {n}: done", f"call-{n}") for n in range(FAN_OUT))
        writer.step(plan, answers, took_s=slowest - writer.now)
        prompt = answers
        finished = FAN_OUT
    else:
        words = int(writer.random.lognormal(3.4, 0.7)) + 6
        turn = writer.turn(prompt, Message.assistant(prose(words), (call(0, "search", query="the part"),)))
        found = (Message.tool(prose(14), "call-0"),)
        writer.step(turn, found, took_s=float(writer.random.lognormal(0.2, 0.8)))
        prompt = found
    writer.turn(prompt, Message.assistant(f"The sum of it is {prose(8)}"))
    root = writer.start.parent is None
    whole = Score(1.0, {"found": 0.8, "parallel": 0.2}, "every part was found")
    writer.usage = replace(writer.usage, children=finished, finished_children=finished)
    writer.end(score=whole if root else Score(1.0, {"found": 1.0}), response="done", judged_s=0.8 if root else 0.0)
    return writer.events + events
