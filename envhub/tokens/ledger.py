"""Ledger: a rollout's live graph of messages and their exact ids, so that nothing recorded is ever rendered again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from envhub.contracts.ids import PolicyId
from envhub.contracts.messages import Message, Role
from envhub.contracts.policy import PolicyInput, PromptIds
from envhub.contracts.turn import CallKind, Fork, Ids, PromptImage, Turn
from envhub.tokens import by_ids, forks
from envhub.tokens.call_forms import HERMES
from envhub.tokens.canonical import Parse, canonical
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.history import KIND_OF, Match, Node, Recorded, walk

RootKey: TypeAlias = tuple[PolicyId, str]  # tokens differ between policies, and the tools are part of the first prompt
BY_IDS = "\0ids"  # in place of tools: the prompt came as ids, and no conversation of messages goes on from its answer


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """What one call sends to the engine, and where it hangs in the graph."""

    index: int  # of the call
    root: RootKey
    tools: tuple[str, ...]  # names
    parent: int | None
    messages: tuple[Message, ...]  # new since the parent
    delta_ids: Ids  # int32 [D]: the ids of these messages
    prompt_ids: Ids  # int32 [P]: prompt and output of the parent, then the delta
    images: tuple[PromptImage, ...]  # of prompt_ids
    stop_ids: frozenset[int]  # that end the answer
    parse: Parse  # of the model's replies
    hint: Fork  # what the caller knows of the call
    keeps_reasoning: bool  # the parent's reply came back with its reasoning
    rewritten: bool  # the template would write the parent's conversation otherwise by now
    answer: Turn | None  # that an earlier process recorded to this very call

    @property
    def routed_from(self) -> int:
        """The first token whose routing to experts its parent could not know: its own last one, that nobody had read
        yet."""
        return 0 if self.parent is None else max(0, len(self.prompt_ids) - len(self.delta_ids) - 1)

    @property
    def new_images(self) -> tuple[PromptImage, ...]:
        """Those of the delta, with offsets within it."""
        known = len(self.prompt_ids) - len(self.delta_ids)
        return tuple(image.moved(-known) for image in self.images if image.start >= known)


class Ledger:
    """One per rollout. A history that was rewritten becomes a new branch; nothing recorded ever changes.

    A history that says the same as a recorded one goes on from its ids, however it was written (canonical.py). One that
    says something else is a branch from the last reply that is still the same; docs/tokens.md lists the cases.
    """

    def __init__(self, earlier: Iterable[Turn] = ()) -> None:
        """`earlier`: the turns that a process recorded which is gone; the same calls will be asked again."""
        self._calls = 0
        self._roots: dict[RootKey, Node] = {}
        self._turns: dict[int, tuple[Recorded, Node]] = {}
        self._begun: set[PolicyId] = set()  # those that have a first turn
        self._kinds: dict[RootKey, CallKind] = {}  # of the first call of each root
        self._earlier = {turn.index: turn for turn in earlier}
        self.unclaimed = sorted(self._earlier)  # indices of those that were not asked for again yet

    def prepare(self, policy_id: PolicyId, renderer: ChatRenderer, input: PolicyInput) -> Prompt:
        """The prompt of the next call: the deepest recorded turn whose prompt and response its messages begin with, id
        for id, and only what is new rendered after it. The call's index is spent, whatever becomes of the call.
        A call that an earlier process made has its answer with it.

        Raises:
            Fault: "policy", the chat template refused the conversation.
        """
        if input.prompt is not None:
            return self._prepare_ids(policy_id, renderer, input.prompt, input.fork)
        parse = renderer.form.parse
        offer = renderer.offered.of(input.tools)
        root = (policy_id, offer.key)
        match = walk(self._roots.get(root, Node()), input.messages, parse)
        recorded, new = match.recorded, _new(match, input.messages)
        answer = self._claim(policy_id, match, new, offer.names, parse) if self.unclaimed else None
        if answer is not None:
            index, delta = answer.index, answer.delta_ids
        else:
            index = self.next_index()
            delta = renderer.delta(new, offer, after=None if recorded is None else recorded.turn.output_ids)
        before = [] if recorded is None else recorded.pieces()
        return Prompt(
            index=index,
            root=root,
            tools=offer.names,
            parent=None if recorded is None else recorded.turn.index,
            messages=new,
            delta_ids=delta,
            prompt_ids=np.concatenate((*before, delta)) if before else delta,
            images=_images(recorded, sum(map(len, before)), renderer.images(new, delta)),
            stop_ids=renderer.stop_ids,
            parse=parse,
            hint=input.fork,
            keeps_reasoning=_keeps_reasoning(match, input.messages, parse),
            rewritten=recorded is not None
            and (recorded.turn.rewritten or (recorded.reasoned and renderer.drops_reasoning(new))),
            answer=answer,
        )

    def _prepare_ids(self, policy_id: PolicyId, renderer: ChatRenderer, asked: PromptIds, hint: Fork) -> Prompt:
        """The same of a prompt that came as ids: the turn whose prompt and output it begins with, and the rest of it,
        recorded as a text of the user, for nobody says whose it is."""
        recorded, known = by_ids.continued(self._in_order(), policy_id, asked.ids)
        delta, parse = asked.ids[known:], renderer.form.parse
        new = (Message.user(renderer.text(delta)),) if len(delta) else ()
        match = Match(Node(), 0, recorded, 0)
        answer = self._claim(policy_id, match, new, (), parse) if self.unclaimed else None
        return Prompt(
            index=self.next_index() if answer is None else answer.index,
            root=(policy_id, BY_IDS),
            tools=(),
            parent=None if recorded is None else recorded.turn.index,
            messages=new,
            delta_ids=delta,
            prompt_ids=asked.ids,
            images=() if recorded is None else recorded.images,
            stop_ids=renderer.stop_ids if asked.stop_ids is None else asked.stop_ids,
            parse=parse,
            hint=hint,
            keeps_reasoning=False,
            rewritten=recorded is not None and recorded.turn.rewritten,
            answer=answer,
        )

    def fork(self, prompt: Prompt) -> Fork:
        """Why the turn that answers `prompt` begins a branch. Ask right before it is committed: of calls side by side
        the first to be answered continues, or begins, the conversation."""
        policy_id, _ = prompt.root
        before = None
        if prompt.parent is not None:
            before, node = self._turns[prompt.parent]
            if before.prompt_ids is not None:
                return Fork.NONE
        elif not prompt.hint and policy_id not in self._begun:
            return Fork.NONE
        else:
            node = self._roots.get(prompt.root, Node())
        if prompt.root[1] == BY_IDS:
            return prompt.hint or by_ids.reason(self._in_order(), policy_id, prompt.parent, prompt.delta_ids)
        return prompt.hint or self._with_other_tools(prompt) or self._reason(before, node, prompt)

    def kind(self, prompt: Prompt, fork: Fork) -> CallKind:
        """Whose the call is: as its branch begins, else as what it goes on from; one that goes on from nothing is of
        those that first asked under its tools."""
        if fork in KIND_OF:
            return KIND_OF[fork]
        if prompt.parent is not None:
            return self._turns[prompt.parent][0].kind
        return self._kinds.get(prompt.root, CallKind.MAIN)

    def commit(self, prompt: Prompt, turn: Turn) -> None:
        """Records the turn that answered `prompt`: later conversations may continue it."""
        parent, node = None, Node() if prompt.root[1] == BY_IDS else self._roots.setdefault(prompt.root, Node())
        if prompt.parent is not None:
            parent, before = self._turns[prompt.parent]
            node = node if prompt.root[1] == BY_IDS else before
            parent.prompt_ids = None
            node.keeps_reasoning = node.keeps_reasoning or prompt.keeps_reasoning
        elif not turn.fork:
            self._begun.add(turn.policy_id)
        for message in (*prompt.messages, turn.response):
            node = node.grow(message, prompt.parse)
        kind = self.kind(prompt, turn.fork)
        if parent is None:
            self._kinds.setdefault(prompt.root, kind)
        recorded = Recorded(turn, parent, prompt.prompt_ids, prompt.images, kind)
        if node.recorded is None or node.recorded.turn.index < turn.index:
            node.recorded = recorded
        self._turns[turn.index] = (recorded, node)

    def next_index(self) -> int:
        """Of a call of a policy without tokens; the other policies' come with their prompts."""
        while self._calls in self._earlier:
            self._calls += 1
        self._calls += 1
        return self._calls - 1

    def claim(self, policy_id: PolicyId, messages: Sequence[Message], tools: Sequence[str]) -> Turn | None:
        """What an earlier process recorded of this very call of a policy without tokens."""
        nowhere = walk(Node(), (), HERMES.parse)
        return self._claim(policy_id, nowhere, messages, tuple(tools), HERMES.parse) if self.unclaimed else None

    def _claim(
        self, policy_id: PolicyId, match: Match, new: Sequence[Message], tools: tuple[str, ...], parse: Parse
    ) -> Turn | None:
        """The first earlier turn that answers this call."""
        parent = None if match.recorded is None else match.recorded.turn.index
        call = (policy_id, parent, tools)
        keys = [canonical(message, parse).key for message in new]
        for index in self.unclaimed:
            turn = self._earlier[index]
            same_call = (turn.policy_id, turn.parent, turn.tools) == call
            if same_call and [canonical(message, parse).key for message in turn.messages] == keys:
                self.unclaimed.remove(index)
                return turn
        return None

    def _with_other_tools(self, prompt: Prompt) -> Fork:
        """Whether a conversation that these tools have never seen is known under others; of one that is not, no tools
        beside those that have some tell a side call."""
        policy_id, parse = prompt.root[0], prompt.parse
        if prompt.parent is not None or prompt.root in self._roots:
            return Fork.NONE
        others = [node for (policy, _), node in self._roots.items() if policy == policy_id]
        if any(forks.begins_alike(prompt.messages[: walk(node, prompt.messages, parse).known]) for node in others):
            return Fork.TOOLS_CHANGED
        return Fork.NONE if prompt.tools else Fork.SIDE_CALL

    def _in_order(self) -> Iterator[Recorded]:
        """All turns, as they were recorded."""
        return (recorded for recorded, _ in self._turns.values())

    def _reason(self, before: Recorded | None, node: Node, prompt: Prompt) -> Fork:
        turns = [recorded for recorded in self._in_order() if recorded.turn.policy_id == prompt.root[0]]
        return forks.reason(before, node, prompt.messages, turns, prompt.parse)


def _new(match: Match, messages: Sequence[Message]) -> tuple[Message, ...]:
    """What follows the recorded reply. Answers to its calls go by the ids that the model gave these, not by those that
    the caller may have put in their place: a template may write them."""
    new = tuple(messages[match.covered :])
    if match.recorded is None:
        return new
    reply, returned = match.recorded.turn.response, messages[match.covered - 1]
    ids, given = [call.id for call in reply.tool_calls], [call.id for call in returned.tool_calls]
    if returned is reply or given == ids:
        return new
    renamed, in_order = dict(zip(given, ids, strict=False)), iter(ids)

    def answering(message: Message) -> Message:
        if message.role is not Role.TOOL:
            return message
        answered = message.tool_call_id
        return replace(message, tool_call_id=renamed.get(answered, answered) if answered else next(in_order, ""))

    return tuple(map(answering, new))


def _images(recorded: Recorded | None, known: int, new: Sequence[PromptImage]) -> tuple[PromptImage, ...]:
    """Those of a prompt, whose delta comes after so many tokens."""
    if recorded is None:
        return tuple(new)
    return (*recorded.images, *(image.moved(known) for image in new)) if new else recorded.images


def _keeps_reasoning(match: Match, messages: Sequence[Message], parse: Parse) -> bool:
    if match.recorded is None or not match.recorded.turn.response.reasoning:
        return False
    returned = messages[match.covered - 1]
    return returned is match.recorded.turn.response or bool(canonical(returned, parse).reasoning)
