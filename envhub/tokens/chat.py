"""ChatRenderer: conversations to token ids through the model's own template, whole or only what is new."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np

from envhub.contracts.engine import Model, Tokenizer
from envhub.contracts.messages import JsonObject, Message, ToolCall
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Ids, PromptImage
from envhub.errors import Boundary, Fault, UsageError
from envhub.tokens.call_forms import CallForm, call_form
from envhub.tokens.controls import MARK, ControlTexts, any_of, unshield, unshield_object
from envhub.tokens.entries import Entries
from envhub.tokens.offered_tools import Offer, OfferedTools
from envhub.tokens.rendered import Rendered
from envhub.tokens.template import ChatTemplate, Entry
from envhub.tokens.traits import ANCHOR, RECORDED, USER, probe

_PROMPT_END = 16  # tokens, in which a prompt that opens the reasoning does so


class ChatRenderer:
    """Renders for one model. Control tokens come from the template alone: their text inside a message stays text.

    Tools, calls or results that the template does not write are written in `form`, as text of the messages, so that
    examples in a prompt look exactly like what the model should write. It is the one that the template is known by,
    unless given.

    Raises:
        UsageError: the template is missing or can't be used.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: str,
        *,
        name: str = "model",
        variables: Mapping[str, str] | None = None,
        form: CallForm | None = None,
        now: datetime | None = None,
    ) -> None:
        self.form = form or call_form(template)
        self.stop_ids = tokenizer.stop_ids
        self._name = name
        self._controls = ControlTexts(tokenizer)
        self._rendered = Rendered()
        self._template = ChatTemplate(template, name=name, variables=variables or {}, now=now or datetime.now())
        self._stops = {text: id for text, id in tokenizer.special_ids.items() if id in tokenizer.stop_ids}
        self._leading_stop = re.compile(rf"\s*{any_of(self._stops).pattern}")
        traits = probe(self._template, self.form)
        placeholder = self._controls.within(traits.image)  # plain text would be confused with what is said
        self._placeholder = np.array(self._controls.encode(placeholder), np.int32)
        self.traits = traits if placeholder else replace(traits, image="", images_in_results=False)
        self._entries = Entries(self._controls, self.form, self.traits)
        self.offered = OfferedTools(self._entries.tool)
        self._end_of_turn = self._find_end_of_turn()

    @classmethod
    def of(cls, model: Model, *, now: datetime | None = None) -> "ChatRenderer":
        """The renderer of a model's own template. `now` is the date that the template may write: a run that must be
        repeatable gives its own start.

        Raises:
            UsageError: the template is missing or can't be used, or there is no such call form.
        """
        template, form = model.chat_template, call_form(model.chat_template, model.call_form)
        return cls(model.tokenizer, template, name=model.name, variables=model.template_variables, form=form, now=now)

    def first(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """A whole prompt, up to where the model's message begins.

        Raises:
            Fault: "policy", the template refused the conversation.
        """
        return self._controls.encode(self._whole(messages, tools))

    def extend(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, ended_by: int | None) -> list[int]:
        """What follows a recorded assistant message: its end-of-turn where the output was cut (`ended_by` None), the
        new messages, and the beginning of the model's next one. The cost does not depend on the history.

        Any stop id is an end: the template's own is not written after another.

        Raises:
            Fault: "policy", the template refused the conversation.
        """
        return self._extension(messages, self._described(tools), ended_by)

    def delta(self, messages: Sequence[Message], offer: Offer, *, after: Ids | None) -> Ids:
        """int32 [D], not to be changed: what `extend` gives after a recorded output, and `first` where there is none.

        Raises:
            Fault: "policy", the template refused the conversation.
        """
        if after is None:  # members of a group share it; what follows a reply is seldom met again
            return self._rendered.ids(messages, (offer.key,), partial(self.first, messages, offer.tools))
        described = offer.described if self.traits.writes_tools else []
        return np.array(self._extension(messages, described, self.ended_by(after)), np.int32)

    def images(self, messages: Sequence[Message], ids: Ids) -> tuple[PromptImage, ...]:
        """The pictures of messages and the placeholders in `ids` that stand for them, in order; none where the template
        shows none.

        Raises:
            Fault: "policy", the template left one out, or wrote one twice.
        """
        images = [image for message in messages for image in message.images]
        if not (images and len(self._placeholder)):
            return ()
        starts = _occurrences(self._placeholder, ids)
        if len(starts) != len(images):
            problem = f"writes {len(starts)} placeholders for {len(images)} pictures"
            raise Fault(f"the chat template of '{self._name}' {problem}; leave them out, or mend it", Boundary.POLICY)
        length = len(self._placeholder)
        return tuple(PromptImage(image, start, start + length) for image, start in zip(images, starts, strict=True))

    def written(self, messages: Sequence[Message], reply: Message, tools: Sequence[ToolSpec]) -> list[int]:
        """What a model samples after these messages that replies just as the template writes it, with its end of turn
        where it has one.

        Raises:
            Fault: "policy", the template refused the conversation.
        """
        prompt, whole = self._whole(messages, tools), self._whole([*messages, reply], tools, generate=False)
        end = self._end_of_turn or ""
        if not whole.startswith(prompt):
            return self._controls.encode(self._entries.written(reply, prompt) + end)
        said = whole[len(prompt) :]
        return self._controls.encode(said[: said.rfind(end) + len(end)] if end else said)

    def read(
        self, output_ids: Ids, call_id_prefix: str, tools: Sequence[ToolSpec] = (), *, prompt_ids: Ids | None = None
    ) -> Message:
        """The message that an output is: a control token of the form is one, its text written out is none. `prompt_ids`
        end where it begins: they may have opened its reasoning.

        An id outside of the vocabulary raises what the tokenizer raises; nothing else does.
        """
        ids = output_ids[:-1] if self.ended_by(output_ids) is not None else output_ids
        text = self._controls.decode(ids.tolist())
        thinking = prompt_ids is not None and self.thinks_after(prompt_ids)
        message = self.form.parse(text, call_id_prefix, thinking=thinking, tools=tools)
        return _unshielded(message) if MARK in text else message

    def text(self, ids: Ids) -> str:
        """The text of a prompt that came as ids.

        Raises:
            UsageError: the vocabulary has not all of them.
        """
        try:
            return unshield(self._controls.decode(ids.tolist()))
        except (LookupError, ValueError, OverflowError) as error:
            raise UsageError(f"the prompt has an id that the vocabulary of '{self._name}' has not") from error

    def thinks_after(self, prompt_ids: Ids) -> bool:
        """Whether the model goes on with reasoning that its prompt opened."""
        if not self.traits.begins_thinking:
            return False
        return self._controls.decode(prompt_ids[-_PROMPT_END:].tolist()).rstrip().endswith(self.form.think_open)

    def drops_reasoning(self, new: Sequence[Message]) -> bool:
        """Whether the template writes earlier replies without their reasoning once these messages follow."""
        return any(message.role in self.traits.drops_reasoning for message in new)

    def ended_by(self, output_ids: Ids) -> int | None:
        """The stop id that an output ends with; None where it was cut."""
        last = int(output_ids[-1]) if len(output_ids) else None
        return last if last in self.stop_ids else None

    def _whole(self, messages: Sequence[Message], tools: Sequence[ToolSpec], *, generate: bool = True) -> str:
        entries = self._entries.of(messages, begin=True)
        if tools and not self.traits.writes_tools:
            entries = self._entries.introduced(entries, tools)
        return self._template.render(entries, self._described(tools), generate=generate)

    def _extension(self, messages: Sequence[Message], tools: Sequence[JsonObject], ended_by: int | None) -> list[int]:
        tail = self._after_anchor(self._entries.of(messages, begin=False), tools)
        return self._controls.encode(tail if ended_by is None else self._without_stop(tail, ended_by))

    def _after_anchor(
        self, entries: Sequence[Entry], tools: Sequence[JsonObject] = (), *, generate: bool = True
    ) -> str:
        rendered = self._template.render([USER, RECORDED, *entries], tools, generate=generate)
        _, anchor, tail = rendered.partition(ANCHOR)
        if not anchor:
            problem = "does not write assistant messages as they are, so a conversation can't be extended"
            raise Fault(f"the chat template of '{self._name}' {problem}", Boundary.POLICY)
        return tail

    def _find_end_of_turn(self) -> str | None:
        """The stop text that the template writes after every assistant message; None where it writes none, but begins
        the next message with a token that stops this one."""
        try:
            self._after_anchor([USER])
            found = self._leading_stop.match(self._after_anchor([], generate=False))
        except Fault as fault:
            raise UsageError(f"{fault}; use another model or mend the template") from fault
        return found[1] if found else None

    def _without_stop(self, tail: str, ended_by: int) -> str:
        found = self._leading_stop.match(tail)
        if found and (found[1] == self._end_of_turn or self._stops[found[1]] == ended_by):
            return tail[found.end() :]
        return tail

    def _described(self, tools: Sequence[ToolSpec]) -> list[JsonObject]:
        return self.offered.of(tools).described if tools and self.traits.writes_tools else []


def _occurrences(run: Ids, ids: Ids) -> list[int]:
    """Where a run of ids begins in others."""
    starts = np.flatnonzero(ids[: max(len(ids) - len(run) + 1, 0)] == run[0]).tolist()
    return [start for start in starts if np.array_equal(ids[start : start + len(run)], run)]


def _unshielded(message: Message) -> Message:
    calls = tuple(
        ToolCall(unshield(call.id), unshield(call.name), unshield_object(call.arguments), unshield(call.error))
        for call in message.tool_calls
    )
    return Message(message.role, unshield(message.content), calls, reasoning=unshield(message.reasoning))
