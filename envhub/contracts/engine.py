"""Engine: token ids in; token ids with log probabilities out, streamed so that it can be cut."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from envhub.contracts.ids import PolicyVersion
from envhub.contracts.quick import quickly_made
from envhub.contracts.token_file import Experts, SamplingMask
from envhub.contracts.turn import Finish, Ids, Logprobs, PromptImage, Sampling


@quickly_made
@dataclass(frozen=True, slots=True, eq=False)
class EngineRequest:
    """One generation. `sampling.seed` is set; `stop_ids` end it and are part of the output."""

    request_id: str  # of a rollout's: begins with its id and "/"
    prompt_ids: Ids  # int32 [P]
    sampling: Sampling
    stop_ids: frozenset[int]
    policy_version: PolicyVersion | None = None  # to sample with, where the engine still serves it; None: the newest
    images: tuple[PromptImage, ...] = ()  # in order of `start`; an engine that takes none refuses the request
    routed_from: int = 0  # the first token whose routing to experts is not known yet, below P


@quickly_made
@dataclass(frozen=True, slots=True, eq=False)
class EngineChunk:
    """Some tokens of one policy version, whose arrays nobody changes any more. The last chunk, and only it, carries
    `finish`."""

    ids: Ids  # int32 [n]
    logprobs: Logprobs  # float32 [n], nats: of the id under the distribution that it was sampled from
    policy_version: PolicyVersion
    finish: Finish | None = None
    mask: SamplingMask | None = None  # of the n tokens, where the request's sampling is truncated
    experts: Experts | None = None  # with `finish`, where the engine tells: of the tokens read from `routed_from` on


class Engine(Protocol):
    """Samples tokens. Closing the iterator early stops the generation and frees its slot."""

    @property
    def context_tokens(self) -> int:
        """The most tokens that prompt and output may have together."""

    def generate(self, request: EngineRequest) -> AsyncGenerator[EngineChunk, None]:
        """
        Raises:
            EngineFault: it failed. Retryable where another try may succeed.
        """

    async def close(self) -> None:
        """Ends running generations with an EngineFault and frees memory. Idempotent."""


@runtime_checkable
class ServedEngine(Engine, Protocol):
    """An engine on a server, whose weights change while it serves.

    Every method raises EngineFault where the server does not answer, or refuses.
    """

    async def health(self) -> None:
        """Returns where the server can generate."""

    async def version(self) -> PolicyVersion:
        """Of the weights that it generates with now."""

    async def pause(self, *, keep: bool) -> None:
        """Generates nothing more; `keep`: what runs is held with its tokens, else it ends with Finish.ABORT and what it
        has. Idempotent."""

    async def resume(self) -> None:
        """Generates again. Idempotent."""

    async def reload(self, weights: str, version: PolicyVersion) -> None:
        """Takes weights from a path that the server sees; "": from where it has them, as the trainer has put new ones
        there or transferred them itself. What it generates from now on is of `version`."""


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def special_ids(self) -> Mapping[str, int]:
        """The control tokens by their text."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The ids that end an assistant message."""

    def encode(self, text: str) -> list[int]:
        """Ids of plain text: control tokens written out in it are text like any other."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, control tokens included; bytes that are no UTF-8 become U+FFFD."""


@dataclass(frozen=True, slots=True)
class Model:
    """An engine with the tokenizer and the chat template (Jinja) of its weights."""

    name: str
    engine: Engine
    tokenizer: Tokenizer
    chat_template: str
    exact: bool = True  # ids and logprobs are the engine's own
    template_variables: Mapping[str, str] = field(default_factory=dict)  # special tokens it names: bos_token, eos_token
    call_form: str = ""  # how it writes calls, a name of tokens.call_forms; "": as the template tells


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What an engine is opened with; each engine says which it reads."""

    weights: str = ""  # a file or directory; "": the engine's default
    threads: int = 0  # of its arithmetic; 0: the engine's default for this machine
    max_batch: int = 16  # generations that run side by side; more wait in order
    dtype: str = ""  # of its arithmetic, float32 or bfloat16; "": the engine's default
    device: str = ""  # of its arithmetic: cpu, cuda, cuda:1; "": a GPU where there is one
    url: str = ""  # of its server; several, comma separated, are replicas of the same weights
    model: str = ""  # what the server calls it, be it an adapter; "": the first that it names
    tokenizer: str = ""  # directory or .gguf file, for weights on a server; "": the server's own path, where it is here
    call_form: str = ""  # of every engine: how the model writes calls; "": as its chat template tells
