"""HeldTokens: tokens that a server sent, checked, and held until it is certain which weights sampled them."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from envhub.contracts.engine import EngineChunk
from envhub.contracts.ids import PolicyVersion
from envhub.contracts.token_file import Experts, SamplingMask
from envhub.contracts.turn import Finish, Ids, Logprobs
from envhub.errors import EngineFault

MOST_ID = int(np.iinfo(np.int32).max)
NO_LOGPROB = -9999.0  # what servers write for one that is -inf, NaN or absent
ROUNDING = 1e-6  # nats: a float32 log-softmax can round to just above 0
UNTRAINED = "default"  # what servers call the weights that they were started with
_least, _most = np.minimum.reduce, np.maximum.reduce


class VersionSpan(msgspec.Struct, frozen=True):
    """Output tokens [start, end) were sampled by weights of this label."""

    version: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Piece:
    """What one event brought. `scored` are the ids that `logprobs` are of."""

    ids: list[int]
    scored: list[int]
    logprobs: list[float | None]
    finish: Finish | None = None
    spans: Sequence[VersionSpan] | None = None  # of all output so far; None: not said here
    allowed: list[list[int]] | None = None  # of each id, what it was drawn from; None: the server does not say
    experts: Experts | None = None  # [n, layers, k] of the last n tokens that the model read; None: not said here


class HeldTokens:
    """One generation's tokens on their way to EngineChunks of one version each.

    A server may tell the versions only with the last event. Until then two equal answers of it, one from before the
    generation and one from after the tokens came, make their version certain, as versions only go up.
    """

    def __init__(self, before: PolicyVersion, *, greedy: bool, masked: bool = False, unrouted: int = 0) -> None:
        """`masked`: the sampling is truncated. `unrouted`: tokens of the prompt whose experts are wanted."""
        self.finish: Finish | None = None
        self.received = 0
        self._before = before
        self._changed = False  # the weights did, so that only spans can tell
        self._greedy = greedy
        self._spans: Sequence[VersionSpan] | None = None
        self._masked = masked
        self._unrouted = unrouted
        self._experts: Experts | None = None
        self._allowed: list[list[int]] = []
        self._ids: list[int] = []
        self._logprobs: list[float | None] = []
        self._confirmed = 0  # tokens handed on before spans told their version

    def add(self, piece: Piece) -> None:
        """
        Raises:
            EngineFault: retryable, the server sent what may not be recorded.
        """
        if self.finish is not None:
            raise _unfit(f"it went on after its finish reason, {self.finish}")
        if not len(piece.scored) == len(piece.logprobs) == len(piece.ids):
            raise _unfit(f"it has {len(piece.logprobs)} logprobs for {len(piece.ids)} tokens")
        if piece.scored != piece.ids:
            raise _unfit(f"it has logprobs of the ids {piece.scored} for the tokens {piece.ids}")
        if self._masked and piece.ids:
            self._add_masks(piece)
        self._ids += piece.ids
        self._logprobs += piece.logprobs
        self.received += len(piece.ids)
        self.finish, self._spans = piece.finish, piece.spans
        if piece.experts is not None:
            self._add_experts(piece.experts)

    @property
    def logprobs(self) -> Logprobs:
        """float32, nats: of what is held.

        Raises:
            EngineFault: retryable, as of `settle`.
        """
        return _fit_logprobs(self._logprobs)

    @property
    def told(self) -> bool:
        """Whether the newest event said the versions."""
        return self._spans is not None

    @property
    def waits(self) -> bool:
        """Whether an answer of the server may make something certain."""
        return bool(self._ids) and not self._changed

    def settle(self, now: PolicyVersion | None = None) -> list[EngineChunk]:
        """All that is certain; `now` is the server's version after the newest token came, unless the versions are told.

        Raises:
            EngineFault: retryable, what was sent may not be recorded, or its versions are not to be found out, or
                contradict each other.
        """
        if self._spans is not None:
            return self._divided(self._spans)
        if now == self._before and not self._changed:
            self._confirmed += len(self._ids)
            return [self._taken(len(self._ids), self._before)]
        self._changed = True
        if self.finish is None:
            return []
        raise EngineFault(
            f"the weights changed from version {self._before} under a generation, and the server does not say which "
            "tokens each sampled; let it serve token spans, or pause it with abort around updates (docs/engines.md)"
        )

    def _divided(self, spans: Sequence[VersionSpan]) -> list[EngineChunk]:
        chunks, end = [], 0
        for span in spans:
            version = version_of(span.version)
            if span.start != end or span.end < end or (span.start < self._confirmed and version != self._before):
                raise _unfit(f"its spans {list(spans)} leave gaps, or contradict version {self._before} asked before")
            end = span.end
            handed = self.received - len(self._ids)
            if end > handed:
                chunks.append(self._taken(end - handed, version))
        if end != self.received:
            raise _unfit(f"its spans end at {end}, its tokens at {self.received}")
        return chunks if chunks or self.finish is None else [self._taken(0, self._before)]

    def _taken(self, count: int, version: PolicyVersion) -> EngineChunk:
        ids, self._ids = self._ids[:count], self._ids[count:]
        logprobs, self._logprobs = self._logprobs[:count], self._logprobs[count:]
        last = None if self._ids else self.finish
        certain = np.zeros(count, np.float32) if self._greedy else _fit_logprobs(logprobs)
        mask = SamplingMask.of(list(map(_fit_ids, self._allowed[:count]))) if self._masked and count else None
        self._allowed = self._allowed[count:]
        return EngineChunk(_fit_ids(ids), certain, version, last, mask, self._experts if last else None)

    def _add_masks(self, piece: Piece) -> None:
        if piece.allowed is None:
            rule = "without them no trainer could compute with its log probabilities"
            way_out = "start vLLM with --return-sampling-mask, or sample from all ids (top_p 1, top_k 0, min_p 0)"
            reason = f"sampling is truncated, and the server does not say which ids that left; {rule}: {way_out}"
            raise EngineFault(reason, retryable=False)
        if len(piece.allowed) != len(piece.ids):
            raise _unfit(f"it has sampling masks of {len(piece.allowed)} tokens for {len(piece.ids)}")
        self._allowed += piece.allowed

    def _add_experts(self, experts: Experts) -> None:
        """Those that are wanted: a server may send those of the whole prompt."""
        wanted = self._unrouted + self.received - 1  # the last token was sampled, and never read
        if len(experts) >= wanted:
            self._experts = experts[len(experts) - wanted :]
        elif self.finish is not Finish.ABORT:
            raise _unfit(f"it has experts of {len(experts)} tokens, and its model read {wanted} that are wanted")


def version_of(label: str) -> PolicyVersion:
    """
    Raises:
        EngineFault: not retryable, it is no version of ours.
    """
    if label == UNTRAINED:
        return PolicyVersion(0)
    if not label.isdecimal():
        rule = "versions are whole numbers, as the trainer announces them: stamp the weights with one"
        raise EngineFault(f"the server's weights are of version '{label}'; {rule}", retryable=False)
    return PolicyVersion(int(label))


def finish_of(reason: str | None) -> Finish | None:
    """
    Raises:
        EngineFault: retryable, the generation ended for a reason that makes no turn.
    """
    if reason is None:
        return None
    if reason not in (Finish.STOP, Finish.LENGTH, Finish.ABORT):
        raise _unfit(f"it ended with '{reason}'")
    return Finish(reason)


def _fit_ids(ids: Sequence[int]) -> Ids:
    if ids and not 0 <= min(ids) <= max(ids) <= MOST_ID:
        unfit = next(id for id in ids if not 0 <= id <= MOST_ID)
        raise _unfit(f"it has the token id {unfit}; ids lie between 0 and {MOST_ID}")
    return np.array(ids, np.int32)


def _fit_logprobs(logprobs: Sequence[float | None]) -> Logprobs:
    found: NDArray[np.float64] = np.array(logprobs, np.float64)  # None becomes NaN, which fails every comparison
    if len(found) and not NO_LOGPROB < _least(found) <= _most(found) <= ROUNDING:
        unfit = next(value for value in logprobs if value is None or not NO_LOGPROB < value <= ROUNDING)
        raise _unfit(f"it has the logprob {unfit}; each must be finite and <= 0")
    return np.minimum(found, 0.0).astype(np.float32)


def _unfit(what: str) -> EngineFault:
    return EngineFault(f"the server's answer can't be recorded: {what}")
