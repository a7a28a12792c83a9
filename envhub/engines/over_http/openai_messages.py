"""What is said to an OpenAI-compatible server, and read from it: chat completions."""

import json
from collections.abc import Iterator, Sequence

import msgspec

from envhub.contracts.messages import Image, JsonObject, Message, Role, ToolCall
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Finish
from envhub.engines.over_http.data_url import data_url
from envhub.errors import EngineFault

FINISHES = {"stop": Finish.STOP, "tool_calls": Finish.STOP, "function_call": Finish.STOP, "length": Finish.LENGTH}


class _Function(msgspec.Struct):
    name: str
    arguments: str = "{}"


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Completion(msgspec.Struct):
    """An answer, as far as it is read."""

    choices: list[_Choice]
    usage: _Usage | None = None

    def message(self, call_ids: str) -> Message:
        """What the model said. A call without an id gets one that begins with `call_ids`; arguments that are no JSON
        object are an error of the call, which the model is to read."""
        said = self._choice.message
        calls = tuple(
            _read_call(call, call.id or f"{call_ids}-{place}") for place, call in enumerate(said.tool_calls or ())
        )
        reasoning = said.reasoning_content or said.reasoning or ""
        return Message(Role.ASSISTANT, said.content or "", tool_calls=calls, reasoning=reasoning)

    @property
    def finish(self) -> Finish:
        """
        Raises:
            EngineFault: not retryable, the server kept its answer back.
        """
        reason = self._choice.finish_reason or "stop"
        if reason not in FINISHES:
            raise EngineFault(f"the server ended its answer by '{reason}'; ask otherwise", retryable=False)
        return FINISHES[reason]

    @property
    def _choice(self) -> _Choice:
        if not self.choices:
            raise EngineFault("the server's answer has no choices")
        return self.choices[0]


def _read_call(call: _Call, id: str) -> ToolCall:
    name, arguments = call.function.name, call.function.arguments
    try:
        read = json.loads(arguments or "{}")
    except json.JSONDecodeError as error:
        return ToolCall(id, name, error=f"the arguments {arguments!r} are no JSON: {error}")
    if not isinstance(read, dict):
        return ToolCall(id, name, error=f"the arguments {arguments!r} are no JSON object")
    return ToolCall(id, name, read)


def messages_json(messages: Sequence[Message]) -> list[JsonObject]:
    """A conversation. What a tool shows in pictures follows as a user's message: a tool's has no room for them."""
    written: list[JsonObject] = []
    shown: list[JsonObject] = []
    for message in messages:
        if message.role is not Role.TOOL and shown:
            written.append({"role": "user", "content": shown})
            shown = []
        if message.role is Role.TOOL:
            shown += [_image_json(image) for image in message.images]
        written.append(_message_json(message))
    return [*written, {"role": "user", "content": shown}] if shown else written


def tool_json(tool: ToolSpec) -> JsonObject:
    described = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": described}


def _message_json(message: Message) -> JsonObject:
    if message.role is Role.TOOL:
        return {"role": "tool", "tool_call_id": message.tool_call_id, "content": message.content}
    content = list(_parts(message)) if message.images else message.content
    if not message.tool_calls:
        return {"role": message.role.value, "content": content}
    return {
        "role": message.role.value,
        "content": content or None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in message.tool_calls
        ],
    }


def _parts(message: Message) -> Iterator[JsonObject]:
    """Text and pictures, in order."""
    start = 0
    for image in message.images:
        if image.at > start:
            yield {"type": "text", "text": message.content[start : image.at]}
        yield _image_json(image)
        start = image.at
    if message.content[start:]:
        yield {"type": "text", "text": message.content[start:]}


def _image_json(image: Image) -> JsonObject:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}
