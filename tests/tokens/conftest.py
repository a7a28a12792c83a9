"""A model whose tokens are bytes and whose answers are scripted, and the policy over it."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from anyio import lowlevel

from envhub.contracts.engine import EngineChunk, EngineRequest, Model
from envhub.contracts.ids import TRAINED, PolicyId, PolicyVersion, RolloutId
from envhub.contracts.messages import Message
from envhub.contracts.policy import Action, PolicyInput
from envhub.contracts.toolset import ToolSpec
from envhub.contracts.turn import Finish, Sampling, Turn
from envhub.tokens.byte_tokenizer import CHATML_TEMPLATE, END, ByteTokenizer
from envhub.tokens.chat import ChatRenderer
from envhub.tokens.gate import Gate
from envhub.tokens.ledger import Ledger
from envhub.tokens.policy import TokenPolicy

# Writes tools, calls, results and reasoning itself, groups results, and drops the reasoning of earlier messages.
NATIVE_TEMPLATE = """
{%- if tools %}<|im_start|>system
{% if messages[0].role == 'system' %}{{ messages[0].content }}

{% endif %}<tools>
{%- for tool in tools %}

{{ tool | tojson }}
{%- endfor %}

</tools><|im_end|>
{% elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'tool' %}
{%- if loop.first or loop.previtem.role != 'tool' %}<|im_start|>user{% endif %}

<tool_response>
{{ message.content }}
</tool_response>
{%- if loop.last or loop.nextitem.role != 'tool' %}<|im_end|>
{% endif %}
{%- elif message.role != 'system' or not loop.first %}<|im_start|>{{ message.role }}
{% if message.reasoning_content and loop.last %}<think>
{{ message.reasoning_content }}
</think>

{% endif %}
{{- message.content }}
{%- for call in message.tool_calls or [] %}

<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

Chunks = Callable[[EngineRequest], Iterable[EngineChunk]]


def chunk(
    ids: Sequence[int],
    logprobs: Sequence[float] | None = None,
    *,
    version: int = 0,
    finish: Finish | None = Finish.STOP,
) -> EngineChunk:
    """A chunk, by default a good and last one."""
    logprobs = [-0.5] * len(ids) if logprobs is None else logprobs
    return EngineChunk(np.array(ids, np.int32), np.array(logprobs, np.float32), PolicyVersion(version), finish)


def says(text: str, *, cut: bool = False) -> Chunks:
    """A whole answer in two chunks. `cut`: it met its length before it ended."""
    tokenizer = ByteTokenizer()

    def chunks(request: EngineRequest) -> Iterable[EngineChunk]:
        ids = tokenizer.encode(text) + ([] if cut else [tokenizer.special_ids[END]])
        middle = len(ids) // 2
        yield chunk(ids[:middle], finish=None)
        yield chunk(ids[middle:], finish=Finish.LENGTH if cut else Finish.STOP)

    return chunks


@dataclass(eq=False)
class ScriptedEngine:
    """Gives its answers in order; keeps the requests and counts the generations that are not closed."""

    answers: list[Chunks]
    context_tokens: int = 100_000
    requests: list[EngineRequest] = field(default_factory=list)
    running: int = 0

    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        self.requests.append(request)
        self.running += 1
        try:
            for piece in self.answers.pop(0)(request):
                await lowlevel.checkpoint()
                yield piece
        finally:
            self.running -= 1

    async def close(self) -> None:
        self.answers.clear()


@dataclass(eq=False)
class Rollout:
    """A policy over scripted answers, with all that it leaves behind."""

    engine: ScriptedEngine
    policy: TokenPolicy
    ledger: Ledger
    turns: list[Turn]

    async def act(self, *messages: Message, tools: tuple[ToolSpec, ...] = ()) -> Action:
        return await self.policy.act(PolicyInput(messages, tools))


@pytest.fixture(scope="session")
def native_template() -> str:
    return NATIVE_TEMPLATE


@pytest.fixture(scope="session", name="chunk")
def chunk_fixture() -> Callable[..., EngineChunk]:
    return chunk


@pytest.fixture(scope="session", name="says")
def says_fixture() -> Callable[..., Chunks]:
    return says


@pytest.fixture(scope="session")
def make_rollout() -> Callable[..., Rollout]:
    """Makes rollouts: `make_rollout(says("hello"), ...)`."""

    def make(
        *answers: Chunks,
        template: str = CHATML_TEMPLATE,
        ledger: Ledger | None = None,
        policy_id: PolicyId = TRAINED,
        trainable: bool = True,
        max_tokens: int = 4096,
        seed: int | None = None,
        context_tokens: int = 100_000,
        exact: bool = True,
        gate: Gate | None = None,
    ) -> Rollout:
        engine = ScriptedEngine(list(answers), context_tokens)
        model = Model("bytes", engine, ByteTokenizer(), template, exact)
        ledger = ledger or Ledger()
        turns: list[Turn] = []
        ticks = iter(range(1_000_000))
        policy = TokenPolicy(
            model,
            ChatRenderer.of(model),
            ledger,
            policy_id=policy_id,
            rollout_id=RolloutId("run-0-0-0"),
            trainable=trainable,
            sampling=Sampling(max_tokens=max_tokens, seed=seed),
            seed=7,
            record=turns.append,
            gate=gate,
            clock=lambda: float(next(ticks)),
        )
        return Rollout(engine, policy, ledger, turns)

    return make
