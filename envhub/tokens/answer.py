"""Answer: what an engine gave for one call, checked, so that nothing unfit ever enters a trace."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.engine import EngineChunk
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import Experts, SamplingMask, check_experts
from envhub.contracts.turn import Finish, Ids, Logprobs
from envhub.errors import EngineFault, UsageError

ROUNDING = 1e-6  # nats: a float32 log-softmax can round to just above 0; such a logprob is recorded as 0
_NO_IDS, _NO_LOGPROBS = np.empty(0, np.int32), np.empty(0, np.float32)
_least, _most = np.minimum.reduce, np.maximum.reduce  # the methods of arrays take three times as long to get there


@dataclass(slots=True, eq=False)
class Answer:
    """The tokens of one generation, as far as they came. Their values are checked at its end, all at once: most chunks
    bring one token."""

    max_tokens: int
    started_at: float  # seconds since the epoch
    masked: bool = False  # its sampling is truncated: each chunk has to say from which ids its tokens were drawn
    routed_from: int = 0  # of the prompt: the first token whose experts nobody knows
    first_token_at: float = 0.0
    ids: Ids = field(init=False)  # int32 [T], there from `end` on, as the two below
    logprobs: Logprobs = field(init=False)  # float32 [T], nats
    finish: Finish = field(init=False)
    mask: SamplingMask | None = field(init=False)
    experts: list[Experts] = field(default_factory=list)  # of the tokens from `routed_from` on
    runs: list[tuple[PolicyVersion, int]] = field(default_factory=list)  # versions in order, with their tokens in a row
    _finish: Finish | None = None  # None: it is not over
    _chunks: list[EngineChunk] = field(default_factory=list)
    _tokens: int = 0

    def add(self, chunk: EngineChunk, at: float) -> None:
        """
        Raises:
            EngineFault: retryable, the chunk breaks the contract of EngineChunk.
        """
        if self._finish is not None:
            raise _unfit(f"it went on after its finish reason, {self._finish}")
        tokens = _length(chunk)
        self._tokens += tokens
        if self._tokens > self.max_tokens:
            raise _unfit(f"it has {self._tokens} tokens where {self.max_tokens} were asked for")
        self._finish = chunk.finish
        if chunk.experts is not None:
            self._add_experts(chunk.experts)
        if tokens:
            self.first_token_at = self.first_token_at or at
            self._chunks.append(chunk)
            self._count(chunk.policy_version, tokens)

    @property
    def over(self) -> bool:
        return self._finish is not None

    @property
    def tokens(self) -> int:
        return self._tokens

    @property
    def routed(self) -> int:
        """The first token whose experts are not known yet."""
        return self.routed_from + sum(map(len, self.experts))

    def so_far(self) -> Ids:
        """int32 [T], the tokens that are there."""
        return np.concatenate((_NO_IDS, *(chunk.ids for chunk in self._chunks)))

    def cut(self, stop_ids: frozenset[int], finish: Finish | None = None) -> None:
        """To be called when the generation was ended from outside: its end may have been all that was missing. Where
        the engine was stopped too, its Finish.ABORT may have come first: that ends a generation, and no answer."""
        if self._finish not in (None, Finish.ABORT):
            return
        self._finish = finish
        if not self._chunks:
            return
        if int(self._chunks[-1].ids[-1]) in stop_ids:
            self._finish = Finish.STOP
        elif self._tokens == self.max_tokens:
            self._finish = Finish.LENGTH

    def stop(self) -> None:
        """To be called where what came so far is the whole answer, whatever the engine would still say."""
        self._finish = Finish.STOP

    def end(self) -> None:
        """To be called after the last chunk.

        Raises:
            EngineFault: retryable, the engine never said why it ended, or gave what is no token or log probability.
        """
        if self._finish is None:
            raise _unfit(f"it stopped after {self._tokens} tokens without a finish reason")
        self.finish = self._finish
        if len(self._chunks) == 1:
            self.ids, self.logprobs = self._chunks[0].ids, self._chunks[0].logprobs
        else:
            self.ids = np.concatenate((_NO_IDS, *(chunk.ids for chunk in self._chunks)))
            self.logprobs = np.concatenate((_NO_LOGPROBS, *(chunk.logprobs for chunk in self._chunks)))
        self.mask = self._whole_mask() if self.masked and self._tokens else None
        if self._tokens:
            self._check_values()

    def _add_experts(self, experts: Experts) -> None:
        try:
            check_experts(experts, len(experts))
        except UsageError as error:
            raise _unfit(str(error)) from error
        if self.experts and experts.shape[1:] != self.experts[0].shape[1:]:
            raise _unfit(f"it has experts of shape {experts.shape} after others of {self.experts[0].shape}")
        self.experts.append(experts)

    def _whole_mask(self) -> SamplingMask:
        masks = [chunk.mask for chunk in self._chunks if chunk.mask is not None]
        if len(masks) < len(self._chunks):
            raise _unfit("its sampling is truncated, and it does not say which ids were left to draw from")
        mask = SamplingMask.joined(masks)
        drawn = np.repeat(self.ids, np.diff(mask.offsets)) == mask.ids
        missed = np.flatnonzero(np.diff(np.concatenate(([0], np.cumsum(drawn)))[mask.offsets]) != 1)
        if len(missed):
            at = missed[0]
            raise _unfit(f"token {at} is {self.ids[at]}, which is not there, once, among the ids it was drawn from")
        return mask

    def _check_values(self) -> None:
        if _least(self.ids) < 0:
            raise _unfit(f"it has the token id {_least(self.ids)}; ids are not negative")
        highest = _most(self.logprobs)
        if not (highest <= ROUNDING and _least(self.logprobs) > -np.inf):  # NaN fails every comparison
            fit = np.isfinite(self.logprobs) & (self.logprobs <= ROUNDING)
            raise _unfit(f"it has the logprob {self.logprobs[~fit][0]}; each must be finite and <= 0")
        if highest > 0.0:
            self.logprobs = np.minimum(self.logprobs, np.float32(0.0))

    def _count(self, version: PolicyVersion, tokens: int) -> None:
        if self.runs and self.runs[-1][0] == version:
            tokens += self.runs.pop()[1]
        self.runs.append((version, tokens))


def _length(chunk: EngineChunk) -> int:
    if not (_is_vector(chunk.ids, _NO_IDS) and _is_vector(chunk.logprobs, _NO_LOGPROBS)):
        raise _unfit("its ids must be an int32 vector and its logprobs a float32 vector")
    if len(chunk.ids) != len(chunk.logprobs):
        raise _unfit(f"it has {len(chunk.logprobs)} logprobs for {len(chunk.ids)} tokens")
    if chunk.mask is not None and len(chunk.mask) != len(chunk.ids):
        raise _unfit(f"it has sampling masks of {len(chunk.mask)} tokens for {len(chunk.ids)}")
    if chunk.policy_version < 0:
        raise _unfit(f"its policy version is {chunk.policy_version}; sampled tokens have one >= 0")
    return len(chunk.ids)


def _is_vector(array: NDArray[np.generic], like: NDArray[np.generic]) -> bool:
    return array.dtype == like.dtype and array.ndim == 1


def _unfit(what: str) -> EngineFault:
    return EngineFault(f"the engine's answer can't be recorded: {what}")
