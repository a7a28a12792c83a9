"""Entries: messages as chat templates read them, shielded, and written so that nothing of them is lost."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TypeAlias

from envhub.contracts.messages import JsonValue, Message, Role, ToolCall
from envhub.contracts.toolset import ToolSpec
from envhub.errors import Boundary, Fault, UsageError
from envhub.tokens.call_forms import CallForm
from envhub.tokens.call_forms.arguments import to_json
from envhub.tokens.controls import ControlTexts
from envhub.tokens.template import Entry
from envhub.tokens.traits import Traits, call_entry

Piece: TypeAlias = str | None  # of a content: text, or a picture


class Entries:
    """Makes entries for one template: what it would drop or refuse becomes text of a message that it writes."""

    def __init__(self, controls: ControlTexts, form: CallForm, traits: Traits) -> None:
        self._shield = controls.shield
        self._shield_object = controls.shield_object
        self._form = form
        self._traits = traits

    def of(self, messages: Sequence[Message], *, begin: bool) -> list[Entry]:
        """The entries of messages with which a conversation begins, or goes on."""
        if self._writes_results_of(messages):  # nearly always
            return self._joined([self._entry(message, first=begin and message is messages[0]) for message in messages])
        entries: list[Entry] = []
        for is_result, run in groupby(messages, key=lambda message: message.role is Role.TOOL):
            together = list(run)
            if is_result and not self._writes_results_of(together):
                entries.append(self._results(together))
            else:
                entries += [self._entry(message, first=begin and message is messages[0]) for message in together]
        return self._joined(entries)

    def introduced(self, entries: list[Entry], tools: Sequence[ToolSpec]) -> list[Entry]:
        """The entries, with the tools in the system message, or before what the user says first."""
        introduction = self._form.introduce([self.tool(tool) for tool in tools])
        if entries and entries[0]["role"] == Role.SYSTEM:
            return [{**entries[0], "content": f"{entries[0]['content']}\n\n{introduction}"}, *entries[1:]]
        role = Role.SYSTEM if self._traits.writes_system else Role.USER
        return self._joined([{"role": role.value, "content": introduction}, *entries])

    def written(self, reply: Message, prompt: str) -> str:
        """A reply as its model's form has it, after the text of a prompt: how the template writes it is not known."""
        form = self._form
        text = self._shield(reply.content)
        calls = [self._shielded(call) for call in reply.tool_calls if not call.error]
        if calls:
            text = "\n".join(filter(None, [text, form.write(*calls)]))
        opened = prompt.rstrip().endswith(form.think_open)
        if not reply.reasoning and not opened:
            return text
        return f"{'' if opened else form.think_open}{self._shield(reply.reasoning)}{form.think_close}{text}"

    def _joined(self, entries: list[Entry]) -> list[Entry]:
        return entries if self._traits.writes_users_in_a_row else _merged(entries)

    def tool(self, tool: ToolSpec) -> ToolSpec:
        """The tool, shielded."""
        return ToolSpec(self._shield(tool.name), self._shield(tool.description), self._shield_object(tool.parameters))

    def _writes_results_of(self, messages: Sequence[Message]) -> bool:
        """Whether the template has all tool messages among these, and their pictures if it shows any."""
        unseen = self._traits.image and not self._traits.images_in_results
        if self._traits.writes_results and not unseen:
            return True
        results = [message for message in messages if message.role is Role.TOOL]
        return not results or (self._traits.writes_results and not any(message.images for message in results))

    def _results(self, messages: Sequence[Message]) -> Entry:
        """Tool messages as one of the user, for a template that knows none."""
        pieces: list[Piece] = []
        for message in messages:
            before = "\n<tool_response>\n" if pieces else "<tool_response>\n"
            pieces += [before, *self._pieces(message), "\n</tool_response>"]
        return {"role": "user", "content": _content(pieces)}

    def _pieces(self, message: Message) -> list[Piece]:
        """The content with its pictures at their places. A tool's are left out where the template shows none: its
        content names them.

        Raises:
            Fault: "policy", a picture in a message of which the template shows none.
        """
        if not message.images or (message.role is Role.TOOL and not self._traits.image):
            return [self._shield(message.content)]
        if not self._traits.image or message.role not in (Role.USER, Role.TOOL):
            unseen = UsageError(
                f"a {message.role} message has a picture, and the model's chat template shows none there; leave it "
                "out, or use a model that sees"
            )
            raise Fault(str(unseen), Boundary.POLICY) from unseen
        pieces: list[Piece] = []
        start = 0
        for image in message.images:
            pieces += [self._shield(message.content[start : image.at]), None]
            start = image.at
        return [*pieces, self._shield(message.content[start:])]

    def _entry(self, message: Message, *, first: bool) -> Entry:
        content = _content(self._pieces(message)) if message.images else self._shield(message.content)
        written = self._traits.writes_system if first else self._traits.writes_late_system
        if message.role is Role.SYSTEM and not written:
            return {"role": "user", "content": content}
        entry: Entry = {"role": message.role.value, "content": content}
        calls = [call for call in message.tool_calls if not call.error]
        if calls:
            entry |= self._calls(str(content), calls)
        if message.reasoning:
            entry["reasoning_content"] = self._shield(message.reasoning)
        if message.tool_call_id:
            entry["tool_call_id"] = self._shield(message.tool_call_id)
        return entry

    def _calls(self, content: str, calls: Sequence[ToolCall]) -> Entry:
        """The calls of a message, as such or as text of its content."""
        traits, form = self._traits, self._form
        shielded = [self._shielded(call) for call in calls]
        written = traits.writes_parallel_calls if len(calls) > 1 else traits.writes_calls
        if not written:
            return {"content": "\n".join(filter(None, [content, form.write(*shielded)]))}
        entries: list[JsonValue] = [
            call_entry(form.call_id(call, number), call.name, self._arguments(call))
            for number, call in enumerate(shielded)
        ]
        return {"tool_calls": entries}

    def _shielded(self, call: ToolCall) -> ToolCall:
        return ToolCall(self._shield(call.id), self._shield(call.name), self._shield_object(call.arguments))

    def _arguments(self, call: ToolCall) -> JsonValue:
        return to_json(call.arguments) if self._traits.arguments_as_text else call.arguments


def _merged(entries: Iterable[Entry]) -> list[Entry]:
    """Messages of the user that follow each other as one, for a template that refuses them."""
    merged: list[Entry] = []
    for role, run in groupby(entries, key=lambda entry: entry["role"]):
        together = list(run)
        if role == Role.USER and len(together) > 1:
            pieces = [piece for entry in together for piece in ("\n\n", *_pieces_of(entry["content"]))]
            together = [{"role": role, "content": _content(pieces[1:])}]
        merged += together
    return merged


def _content(pieces: Iterable[Piece]) -> JsonValue:
    """Text, or the parts that templates read where a picture is among it."""
    parts: list[Entry] = []
    for is_picture, run in groupby(pieces, key=lambda piece: piece is None):
        together = list(run)
        if is_picture:
            parts += [{"type": "image"} for _ in together]
        elif text := "".join(filter(None, together)):
            parts.append({"type": "text", "text": text})
    if any(part["type"] == "image" for part in parts):
        return parts
    return "".join(str(part["text"]) for part in parts)


def _pieces_of(content: JsonValue) -> list[Piece]:
    if isinstance(content, list):
        return [part.get("text") for part in content]
    return [str(content)]
