"""OpenAI's chat completions (POST /v1/chat/completions), to and from the platform's records.

Unknown fields are ignored. Sampling is the rollout's: what was asked goes into the record, and of it only a lower
`max_tokens` and `tool_choice: "none"` take effect; `logprobs` in an answer is null. Refused, because an answer that
ignores it would be wrong: n above 1, `stop`, a `response_format` other than text, `functions`, tools that are no
functions, and content that is no text.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import msgspec

from envhub.contracts.messages import JsonObject, Message, Role, ToolCall
from envhub.contracts.policy import Action, PolicyInput
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Finish, Sampling
from envhub.gateway.dialects.openai_chat_body import Body, Call, ChatMessage, Part, Tool
from envhub.gateway.errors import ApiError

ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
RECORDED = (
    "model", "temperature", "top_p", "top_k", "min_p", "max_tokens", "max_completion_tokens", "seed", "stop", "n",
    "frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias", "logprobs", "top_logprobs",
    "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity",
)  # fmt: skip
NO_PARAMETERS: JsonObject = {"type": "object", "properties": {}}


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a request asks of the policy, and how it wants to be answered."""

    input: PolicyInput
    model: str
    stream: bool
    include_usage: bool


def parse(body: object, sampling: Sampling) -> ChatRequest:
    """The request in a decoded JSON body; `sampling` is the rollout's.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        asked = msgspec.convert(body, Body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    _refuse_unsupported(asked)
    limit = asked.max_completion_tokens or asked.max_tokens
    input = PolicyInput(
        messages=_messages(asked.messages),
        tools=() if asked.tool_choice == "none" else _tools(asked.tools or []),
        sampling=None if limit is None else replace(sampling, max_tokens=min(limit, sampling.max_tokens)),
        asked=_recorded(body),
    )
    include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
    return ChatRequest(input, asked.model or "", bool(asked.stream), include_usage)


def completion(request: ChatRequest, action: Action, *, id: str, created: int) -> JsonObject:
    """The whole answer."""
    choice = {
        "index": 0,
        "message": {"refusal": None, **message_json(action.message)},
        "logprobs": None,
        "finish_reason": _finish_reason(action),
    }
    head = {"id": id, "object": "chat.completion", "created": created, "model": request.model}
    return {**head, "choices": [choice], "usage": _usage(action)}


def events(request: ChatRequest, action: Action, *, id: str, created: int) -> bytes:
    """The answer as server-sent events, from the role to [DONE]."""
    head: JsonObject = {"id": id, "object": "chat.completion.chunk", "created": created, "model": request.model}
    if request.include_usage:
        head = {**head, "usage": None}
    chunks = [_event({**head, "choices": [_delta(delta)]}) for delta in _deltas(action.message)]
    chunks.append(_event({**head, "choices": [_delta({}, _finish_reason(action))]}))
    if request.include_usage:
        chunks.append(_event({**head, "choices": [], "usage": _usage(action)}))
    return b"".join(chunks) + b"data: [DONE]\n\n"


def error_json(error: ApiError) -> JsonObject:
    """An error in OpenAI's words."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param or None, "code": error.code}}


def error_event(error: ApiError) -> bytes:
    """An error in a stream that has begun."""
    return _event(error_json(error))


def models_json(created: int) -> JsonObject:
    """The list of models: one, for whatever model is named, the rollout's policy answers."""
    model = {"id": "policy", "object": "model", "created": created, "owned_by": "envhub"}
    return {"object": "list", "data": [model]}


def message_json(message: Message) -> JsonObject:
    """A message as OpenAI writes it, with reasoning in the field that vLLM and others use."""
    written: dict[str, object] = {"role": str(message.role), "content": message.content}
    if message.tool_calls:
        written["content"] = message.content or None
        written["tool_calls"] = [_call_json(call) for call in message.tool_calls]
    if message.reasoning:
        written["reasoning_content"] = message.reasoning
    if message.role is Role.TOOL:
        written["tool_call_id"] = message.tool_call_id
    return written


def _invalid(complaint: str) -> ApiError:
    """Of a complaint like "Expected `int`, got `str` - at `$.max_tokens`"."""
    where = re.search(r"`\$\.?([^`]*)`$", complaint)
    return ApiError(400, "invalid_value", complaint, where[1] if where else "")


def _unsupported(param: str, way_out: str) -> ApiError:
    return ApiError(400, "unsupported_parameter", f"unsupported value of '{param}': {way_out}", param)


def _refuse_unsupported(asked: Body) -> None:
    if asked.n not in (None, 1):
        raise _unsupported("n", f"it is {asked.n}, and one call gives one choice; send n = 1, more than once")
    if asked.stop:
        raise _unsupported("stop", "what was sampled is not cut afterwards; leave it out, and cut the text yourself")
    if asked.response_format and asked.response_format.type != "text":
        raise _unsupported("response_format", f"'{asked.response_format.type}' is not enforced; use 'text'")
    if asked.functions:
        raise _unsupported("functions", "use 'tools'")


def _recorded(body: object) -> JsonObject:
    assert isinstance(body, Mapping)  # it was converted to Body
    return {name: body[name] for name in RECORDED if body.get(name) is not None}


def _messages(asked: list[ChatMessage]) -> tuple[Message, ...]:
    """The conversation; a tool's message without an id answers the first call that is still open."""
    messages = []
    open_calls: list[str] = []
    for index, one in enumerate(asked):
        if one.role == "tool":
            one.tool_call_id = one.tool_call_id or (open_calls[0] if open_calls else "")
            open_calls = [id for id in open_calls if id != one.tool_call_id]
        message = _message(one, f"messages[{index}]")
        if message.role is Role.ASSISTANT:
            open_calls = [call.id for call in message.tool_calls]
        messages.append(message)
    return tuple(messages)


def _message(asked: ChatMessage, at: str) -> Message:
    role = ROLES.get(asked.role)
    if role is None:
        complaint = f"role '{asked.role}' is unknown; use {', '.join(ROLES)}"
        raise ApiError(400, "invalid_value", complaint, f"{at}.role")
    content = _text(asked.content, f"{at}.content")
    match role:
        case Role.ASSISTANT:
            calls = tuple(_call(call) for call in asked.tool_calls or ())
            return Message(role, content, calls, reasoning=asked.reasoning_content or "")
        case Role.TOOL:
            return Message.tool(content, asked.tool_call_id or "")
        case _:
            return Message(role, content)


def _text(content: str | list[Part] | None, at: str) -> str:
    if isinstance(content, str):
        return content
    for index, part in enumerate(content or ()):
        if part.type not in ("text", "refusal"):
            raise _unsupported(f"{at}[{index}].type", f"'{part.type}' can't be shown to this model; send text")
    return "\n".join(part.text or part.refusal or "" for part in content or ())


def _call(asked: Call) -> ToolCall:
    """A call of the history; where its arguments are no JSON object, `error` keeps what was written."""
    id, name, written = asked.id or "", asked.function.name, asked.function.arguments or {}
    if not isinstance(written, str):
        return ToolCall(id, name, written)
    try:
        return ToolCall(id, name, msgspec.json.decode(written, type=dict[str, object]))
    except (msgspec.DecodeError, RecursionError):
        return ToolCall(id, name, error=written)


def _tools(asked: list[Tool]) -> tuple[ToolSpec, ...]:
    return tuple(_tool(tool, f"tools[{index}]") for index, tool in enumerate(asked))


def _tool(asked: Tool, at: str) -> ToolSpec:
    if asked.type != "function":
        raise _unsupported(f"{at}.type", f"it is '{asked.type}'; use 'function'")
    if asked.function is None:
        raise ApiError(400, "invalid_value", f"{at} has no 'function'", f"{at}.function")
    function = asked.function
    return ToolSpec(function.name, function.description or "", function.parameters or NO_PARAMETERS)


def _finish_reason(action: Action) -> str:
    if action.finish is not Finish.STOP:
        return "length"  # also where the generation was aborted: the message is incomplete
    return "tool_calls" if action.message.tool_calls else "stop"


def _usage(action: Action) -> JsonObject:
    return {
        "prompt_tokens": action.prompt_tokens,
        "completion_tokens": action.output_tokens,
        "total_tokens": action.prompt_tokens + action.output_tokens,
    }


def _call_json(call: ToolCall) -> JsonObject:
    # A wrong call is told as one: arguments that don't parse, which agents report back to the model.
    arguments = call.error or msgspec.json.encode(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _deltas(message: Message) -> Iterator[JsonObject]:
    yield {"role": "assistant", "content": None if message.tool_calls and not message.content else ""}
    if message.reasoning:
        yield {"reasoning_content": message.reasoning}
    if message.content:
        yield {"content": message.content}
    for index, call in enumerate(message.tool_calls):
        yield {"tool_calls": [{"index": index, **_call_json(call)}]}


def _delta(delta: JsonObject, finish_reason: str | None = None) -> JsonObject:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(data: JsonObject) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
