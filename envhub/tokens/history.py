"""Node: the tree of the conversations that one policy was asked about, message by message."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from envhub.contracts.messages import Message
from envhub.contracts.turn import CallKind, Fork, Ids, PromptImage, Turn
from envhub.tokens.canonical import Parse, canonical

KIND_OF = {Fork.SUBAGENT: CallKind.SUBAGENT, Fork.SIDE_CALL: CallKind.SIDE_CALL}  # of a conversation that begins so


@dataclass(slots=True, eq=False)
class Recorded:
    """A turn with its parent. Only the tip of a branch keeps the ids of its prompt in one piece."""

    turn: Turn
    parent: "Recorded | None"
    prompt_ids: Ids | None  # int32 [P]; None: another turn continues it
    images: tuple[PromptImage, ...]  # of the prompt
    kind: CallKind
    reasoned: bool = field(init=False)  # a reply up to this one has reasoning

    def __post_init__(self) -> None:
        self.reasoned = bool(self.turn.response.reasoning) or (self.parent is not None and self.parent.reasoned)

    def pieces(self) -> list[Ids]:
        """Prompt and output, to be concatenated."""
        pieces: list[Ids] = []
        at: Recorded | None = self
        while at is not None:
            pieces.append(at.turn.output_ids)
            if at.prompt_ids is not None:
                pieces.append(at.prompt_ids)
                break
            pieces.append(at.turn.delta_ids)
            at = at.parent
        return pieces[::-1]

    def conversation(self) -> list[Message]:
        """All its messages, from the first to the response."""
        branch = [self]
        while (parent := branch[-1].parent) is not None:
            branch.append(parent)
        return [message for one in reversed(branch) for message in (*one.turn.messages, one.turn.response)]


@dataclass(slots=True, eq=False)
class Node:
    """A conversation up to `message`.

    A message without reasoning is the one that had some, until the caller has shown, by sending it back once, that it
    keeps reasoning: then it has left it out on purpose.
    """

    message: Message | None = None  # None: nothing was said yet
    recorded: Recorded | None = None  # the newest turn whose prompt and response this is
    keeps_reasoning: bool = False  # the caller sent it back
    latest: "Node | None" = None  # the same object comes again at every call: no key is needed
    # All children with their reasoning, by the keys of their messages, once another message was asked for.
    others: "dict[Hashable, list[tuple[str, Node]]] | None" = None

    def find(self, message: Message, parse: Parse) -> "Node | None":
        """The conversation that goes on with this message."""
        latest = self.latest
        if latest is None or latest.message is message:
            return latest
        if not message.tool_calls and latest.message == message:  # with calls no: to Python, True and 1 are equal
            return latest
        key, reasoning = canonical(message, parse)
        return _returned(self._by_key(parse).get(key, []), reasoning)

    def grow(self, message: Message, parse: Parse) -> "Node":
        """The same, begun where there is none."""
        child = self.find(message, parse)
        if child is None:
            child = Node(message)
            if self.latest is not None:
                key, reasoning = canonical(message, parse)
                self._by_key(parse).setdefault(key, []).append((reasoning, child))
        self.latest = child
        return child

    def children(self) -> "Iterator[Node]":
        if self.others is not None:
            yield from (child for alike in self.others.values() for _, child in alike)
        elif self.latest is not None:
            yield self.latest

    def _by_key(self, parse: Parse) -> "dict[Hashable, list[tuple[str, Node]]]":
        if self.others is None:
            self.others = {}
            if self.latest is not None and self.latest.message is not None:
                key, reasoning = canonical(self.latest.message, parse)
                self.others[key] = [(reasoning, self.latest)]
        return self.others


def _returned(alike: Sequence[tuple[str, Node]], reasoning: str) -> Node | None:
    """Of messages that differ in their reasoning alone, the newest that this one is."""
    same = [child for kept, child in alike if kept == reasoning]
    dropped = [child for _, child in alike if not (reasoning or child.keeps_reasoning)]
    return next(reversed(same or dropped), None)


@dataclass(frozen=True, slots=True)
class Match:
    """How far a conversation is known."""

    node: Node
    known: int  # messages
    recorded: Recorded | None  # the deepest turn on the way
    covered: int  # messages up to that turn's response


def walk(node: Node, messages: Sequence[Message], parse: Parse) -> Match:
    """As far as `messages` lead from `node`."""
    recorded, covered, known = None, 0, 0
    for message in messages:
        latest = node.latest
        child = latest if latest is not None and latest.message is message else node.find(message, parse)
        if child is None:
            break
        node, known = child, known + 1
        if node.recorded is not None:
            recorded, covered = node.recorded, known
    return Match(node, known, recorded, covered)
