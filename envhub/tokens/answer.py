"""Answer: what an engine gave for one call, checked chunk by chunk, so that nothing unfit ever enters a trace."""

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.engine import EngineChunk
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.turn import Finish
from envhub.errors import EngineFault

ROUNDING = 1e-6  # nats: a float32 log-softmax can round to just above 0; such a logprob is recorded as 0


@dataclass(slots=True, eq=False)
class Answer:
    """The tokens of one generation, as far as they came. Lists, because most chunks bring one token."""

    max_tokens: int
    started_at: float  # seconds since the epoch
    first_token_at: float = 0.0
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)  # nats
    runs: list[tuple[PolicyVersion, int]] = field(default_factory=list)  # versions in order, with their tokens in a row
    finish: Finish | None = None  # None: it is not over

    def add(self, chunk: EngineChunk, at: float) -> None:
        """
        Raises:
            EngineFault: retryable, the chunk breaks the contract of EngineChunk.
        """
        if self.finish is not None:
            raise _unfit(f"it went on after its finish reason, {self.finish}")
        ids, logprobs = _checked(chunk)
        if len(self.ids) + len(ids) > self.max_tokens:
            raise _unfit(f"it has {len(self.ids) + len(ids)} tokens where {self.max_tokens} were asked for")
        self.finish = chunk.finish
        if ids:
            self.first_token_at = self.first_token_at or at
            self.ids += ids
            self.logprobs += logprobs
            self._count(chunk.policy_version, len(ids))

    def end(self) -> Finish:
        """Why it ended.

        Raises:
            EngineFault: retryable, the engine never said.
        """
        if self.finish is None:
            raise _unfit(f"it stopped after {len(self.ids)} tokens without a finish reason")
        return self.finish

    def _count(self, version: PolicyVersion, tokens: int) -> None:
        if self.runs and self.runs[-1][0] == version:
            tokens += self.runs.pop()[1]
        self.runs.append((version, tokens))


def _checked(chunk: EngineChunk) -> tuple[list[int], list[float]]:
    if not (_is_vector(chunk.ids, np.int32) and _is_vector(chunk.logprobs, np.float32)):
        raise _unfit("its ids must be an int32 vector and its logprobs a float32 vector")
    ids: list[int] = chunk.ids.tolist()
    logprobs: list[float] = chunk.logprobs.tolist()
    if len(ids) != len(logprobs):
        raise _unfit(f"it has {len(logprobs)} logprobs for {len(ids)} tokens")
    if any(id < 0 for id in ids):
        raise _unfit(f"it has the token id {min(ids)}; ids are not negative")
    if chunk.policy_version < 0:
        raise _unfit(f"its policy version is {chunk.policy_version}; sampled tokens have one >= 0")
    for logprob in logprobs:
        if not -inf < logprob <= ROUNDING:  # NaN fails every comparison
            raise _unfit(f"it has the logprob {logprob}; each must be finite and <= 0")
    return ids, [min(logprob, 0.0) for logprob in logprobs]


def _is_vector(array: NDArray[np.generic], dtype: type[np.generic]) -> bool:
    return array.dtype == dtype and array.ndim == 1


def _unfit(what: str) -> EngineFault:
    return EngineFault(f"the engine's answer can't be recorded: {what}")
