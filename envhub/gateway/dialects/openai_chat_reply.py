"""OpenAI's chat completions: how an answer is written, whole or as chunks."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import msgspec

from envhub.contracts.messages import JsonObject, Message, Role, ToolCall
from envhub.contracts.policy import Action, Heard
from envhub.contracts.turn import Finish
from envhub.gateway.dialect import Sampled, unsaid, written_arguments, written_name
from envhub.gateway.errors import ApiError

MOST_TOKENS = 1 << 18  # whose text is kept encoded; few vocabularies have more


class ChatReply:
    """A `chat.completion`, or its chunks."""

    keep_alive = b": keep-alive\n\n"  # a comment of server-sent events: clients skip it

    def __init__(self, id: str, created: int, model: str, *, usage: bool, logprobs: bool) -> None:
        self._head: JsonObject = {"id": id, "created": created, "model": model}
        self._usage = usage  # in a stream
        self._logprobs = logprobs
        self._content = self._reasoning = ""  # as far as it was streamed

    def whole(self, action: Action, sampled: Sampled | None) -> bytes:
        choice = {
            "index": 0,
            "message": {"refusal": None, **message_json(action.message)},
            "logprobs": self._logprobs_json(sampled),
            "finish_reason": finish_reason(action),
        }
        body = {**self._head, "object": "chat.completion", "choices": [choice], "usage": _usage(action)}
        return msgspec.json.encode(body)

    def opening(self) -> bytes:
        return self._delta({"role": "assistant"})

    def piece(self, heard: Heard) -> bytes:
        self._content += heard.content
        self._reasoning += heard.reasoning
        return b"".join(map(self._delta, _texts(heard.reasoning, heard.content)))

    def closing(self, action: Action, sampled: Sampled | None) -> bytes:
        message = action.message
        rest = _texts(unsaid(message.reasoning, self._reasoning), unsaid(message.content, self._content))
        calls = ({"tool_calls": [{"index": index, **call_json(call)}]} for index, call in enumerate(message.tool_calls))
        chunks = [self._delta(delta) for delta in (*rest, *calls)]
        if not (message.content or message.tool_calls):
            chunks.append(self._delta({"content": ""}))  # what was said is nothing, rather than not said
        chunks.append(self._delta({}, finish_reason(action), self._logprobs_json(sampled)))
        if self._usage:
            chunks.append(self._event({"choices": [], "usage": _usage(action)}))
        return b"".join(chunks) + b"data: [DONE]\n\n"

    def failure(self, error: ApiError) -> bytes:
        return _event(error_json(error))

    def _delta(self, delta: JsonObject, finish: str | None = None, logprobs: JsonObject | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._event({"choices": [choice], **({"usage": None} if self._usage else {})})

    def _event(self, data: JsonObject) -> bytes:
        return _event({**self._head, "object": "chat.completion.chunk", **data})

    def _logprobs_json(self, sampled: Sampled | None) -> JsonObject | None:
        """Of every sampled token; never of others, as no engine is asked for them."""
        if not self._logprobs or sampled is None:
            return None
        return {"content": _tokens_json(sampled), "refusal": None}


def _tokens_json(sampled: Sampled) -> msgspec.Raw:
    """Each sampled token with its log probability. Numbers are encoded at once and put between texts that are encoded
    once for ever: a third of the CPU time that an object for each token takes."""
    turn = sampled.turn
    logprobs = msgspec.json.encode(turn.logprobs.tolist())[1:-1].split(b",") if len(turn.logprobs) else []
    decode = sampled.tokenizer.decode
    opened = [_token_json(decode, id) for id in turn.output_ids.tolist()]
    return msgspec.Raw(b"[%b]" % b",".join([b"%b%b}" % token for token in zip(opened, logprobs, strict=True)]))


@lru_cache(maxsize=MOST_TOKENS)
def _token_json(decode: Callable[[Sequence[int]], str], id: int) -> bytes:
    """An object whose last value, the log probability, is still to come."""
    text = decode([id])
    token = msgspec.json.encode({"token": text, "bytes": list(text.encode()), "top_logprobs": []})
    return token[:-1] + b',"logprob":'


def error_json(error: ApiError) -> JsonObject:
    """An error in OpenAI's words."""
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param or None, "code": error.code}}


def models_json(created: int) -> JsonObject:
    """The list of models: one, for whatever model is named, the rollout's policy answers."""
    model = {"id": "policy", "object": "model", "created": created, "owned_by": "envhub"}
    return {"object": "list", "data": [model]}


def message_json(message: Message) -> JsonObject:
    """A message as OpenAI writes it, with reasoning in the field that vLLM and others use."""
    written: dict[str, object] = {"role": str(message.role), "content": message.content}
    if message.tool_calls:
        written["content"] = message.content or None
        written["tool_calls"] = [call_json(call) for call in message.tool_calls]
    if message.reasoning:
        written["reasoning_content"] = message.reasoning
    if message.role is Role.TOOL:
        written["tool_call_id"] = message.tool_call_id
    return written


def call_json(call: ToolCall) -> JsonObject:
    arguments = msgspec.json.encode(written_arguments(call)).decode()
    return {"id": call.id, "type": "function", "function": {"name": written_name(call), "arguments": arguments}}


def finish_reason(action: Action) -> str:
    if action.finish is not Finish.STOP:
        return "length"  # also where the generation was aborted: the message is incomplete
    return "tool_calls" if action.message.tool_calls else "stop"


def _texts(reasoning: str, content: str) -> Iterator[JsonObject]:
    if reasoning:
        yield {"reasoning_content": reasoning}
    if content:
        yield {"content": content}


def _usage(action: Action) -> JsonObject:
    return {
        "prompt_tokens": action.prompt_tokens,
        "completion_tokens": action.output_tokens,
        "total_tokens": action.prompt_tokens + action.output_tokens,
    }


def _event(data: JsonObject) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
