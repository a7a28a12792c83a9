"""Decoder: a model as the scheduler drives it: sequences with a cache each, and steps that compute many of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import Experts
from envhub.contracts.turn import Ids
from envhub.engines.in_process.sampling import Drawn, Sampler


class Cache(Protocol):
    """What a decoder keeps of a sequence's first `length` tokens. One sequence owns it."""

    @property
    def ids(self) -> Ids:
        """int32 [length]: the tokens."""

    @property
    def length(self) -> int: ...

    @property
    def experts(self) -> Experts | None:
        """[length, layers, k] that the tokens were routed to; None: the model does not route."""


CacheT = TypeVar("CacheT", bound=Cache)


@dataclass(frozen=True, slots=True, eq=False)
class Segment(Generic[CacheT]):
    """The next tokens of one sequence: one while it decodes, a piece of its prompt before."""

    cache: CacheT
    ids: Ids
    sampler: Sampler | None = None  # draws the id after them; None: more of the prompt is to come


class Decoder(Protocol[CacheT]):
    """Not for several threads at once."""

    @property
    def context_tokens(self) -> int: ...

    @property
    def prefill_tokens(self) -> int:
        """Of prompts, the most a step takes beside the sequences that decode."""

    @property
    def policy_version(self) -> PolicyVersion:
        """Of the weights of the next step."""

    def begin(self, tokens: int) -> CacheT:
        """An empty cache for a prompt of so many tokens and some output."""

    def fork(self, cache: CacheT, length: int, tokens: int) -> CacheT:
        """A cache of another's first `length` tokens, for a prompt of so many."""

    def crowded(self, kept: Sequence[CacheT]) -> bool:
        """Whether these caches of ended sequences are more than it has room for."""

    def release(self, cache: CacheT) -> None:
        """Nobody needs this one any more."""

    def step(self, segments: Sequence[Segment[CacheT]]) -> list[Drawn]:
        """Computes all of them; their caches hold their tokens after it. An id for each that has a sampler.

        Raises:
            EngineFault: the logits are not numbers.
        """
