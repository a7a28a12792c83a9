"""Branches: the turns of a rollout as the tree that they are, why each fork happened, and what of it trains."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envhub.contracts.trajectory import Row
from envhub.contracts.turn import NO_VERSION, Finish, Fork, Turn
from envhub.dashboard.records import RowRecord

SAID = 160  # characters of an answer

WHY: Mapping[Fork, str] = {
    Fork.NONE: "",
    Fork.RETRY: "the same history was asked again: a retry, a parallel try, best of n",
    Fork.BRANCH: "after a recorded reply the conversation went on in another way",
    Fork.REASONING_DROPPED: "the caller left out reasoning that it used to return",
    Fork.ARGUMENTS_CHANGED: "a reply came back with the calls it made, but other arguments",
    Fork.COMPACTION: "what was said before came back shorter, to make room",
    Fork.EDITED: "what was recorded was rewritten, inserted or left out",
    Fork.TOOLS_CHANGED: "the same beginning, under other tools",
    Fork.SIDE_CALL: "a call beside the conversation: a title, a commit message",
    Fork.SUBAGENT: "a conversation of another agent that has the same key",
    Fork.UNKNOWN: "nothing in common with what was recorded, and nobody said why",
}


@dataclass(frozen=True, slots=True)
class BranchNode:
    """One turn."""

    turn: int
    parent: int | None
    policy_id: str
    fork: Fork
    why: str  # the fork, in words
    finish: Finish
    prompt_tokens: int  # new since its parent
    sampled_tokens: int
    trainable_tokens: int
    version_min: int  # NO_VERSION: nothing was sampled
    version_max: int
    rows: list[int]  # that it lies on
    trains_in: int | None  # the row in which its tokens train
    messages: int  # new since its parent
    said: str  # the beginning of its answer


@dataclass(frozen=True, slots=True)
class Branches:
    nodes: list[BranchNode]  # in order of their index
    rows: list[RowRecord]


def branches(turns: Sequence[Turn], rows: Sequence[Row]) -> Branches:
    lies_on: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        for turn in row.turns:
            lies_on[turn].append(number)
    trains = {span.turn: number for number, row in enumerate(rows) for span in row.spans if span.trainable}
    nodes = [_node(turn, lies_on[turn.index], trains.get(turn.index)) for turn in turns]
    return Branches(
        nodes=sorted(nodes, key=lambda node: node.turn),
        rows=[RowRecord.of(number, row) for number, row in enumerate(rows)],
    )


def _node(turn: Turn, rows: list[int], trains_in: int | None) -> BranchNode:
    versions = [span.policy_version for span in turn.spans if span.sampled]
    said = turn.response.content or ", ".join(f"{call.name}()" for call in turn.response.tool_calls)
    return BranchNode(
        turn=turn.index,
        parent=turn.parent,
        policy_id=turn.policy_id,
        fork=turn.fork,
        why=WHY[turn.fork],
        finish=turn.finish,
        prompt_tokens=len(turn.delta_ids),
        sampled_tokens=len(turn.output_ids),
        trainable_tokens=sum(span.end - span.start for span in turn.spans if span.trainable),
        version_min=min(versions, default=NO_VERSION),
        version_max=max(versions, default=NO_VERSION),
        rows=rows,
        trains_in=trains_in,
        messages=len(turn.messages),
        said=said[:SAID],
    )
