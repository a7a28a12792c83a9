"""What engines say of single tokens beside their log probabilities, and the files that keep it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from envhub.contracts.files import FileBytes
from envhub.errors import UsageError

_WHOLE = np.dtype("<i4")

Experts: TypeAlias = NDArray[np.integer]  # uint8 or uint16 [n, layers, k]: which experts each layer routed a token to


class TokenFileKind(StrEnum):
    SAMPLING_MASK = "sampling_mask"
    ROUTED_EXPERTS = "routed_experts"


@dataclass(frozen=True, slots=True, eq=False)
class SamplingMask:
    """Of each of T tokens the ids that it was drawn from: token t from `ids[offsets[t]:offsets[t + 1]]`.

    Raises:
        UsageError: offsets that don't rise from 0 to the number of ids.
    """

    offsets: NDArray[np.int32]  # int32 [T + 1]
    ids: NDArray[np.int32]

    def __post_init__(self) -> None:
        offsets = self.offsets
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(self.ids) or (np.diff(offsets) < 0).any():
            raise UsageError(
                f"a sampling mask of {len(self.ids)} ids has the offsets {offsets}; they must rise from 0 to that"
            )

    @classmethod
    def of(cls, allowed: Sequence[Sequence[int] | NDArray[np.int32]]) -> "SamplingMask":
        """The mask of tokens that were each drawn from these."""
        offsets = np.cumsum([0, *map(len, allowed)], dtype=np.int32)
        ids = [np.asarray(of_token, np.int32) for of_token in allowed]
        return cls(offsets, np.concatenate([np.empty(0, np.int32), *ids]))

    @classmethod
    def joined(cls, masks: Sequence["SamplingMask"]) -> "SamplingMask":
        """Of the tokens of all of them, in order."""
        sizes = np.concatenate([np.zeros(1, np.int32), *(np.diff(mask.offsets) for mask in masks)])
        ids = np.concatenate([np.empty(0, np.int32), *(mask.ids for mask in masks)])
        return cls(np.cumsum(sizes, dtype=np.int32), ids)

    def __len__(self) -> int:
        """T."""
        return len(self.offsets) - 1

    def at(self, token: int) -> NDArray[np.int32]:
        return self.ids[self.offsets[token] : self.offsets[token + 1]]


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file about the tokens [start, end), known by its hash; stores keep each file once, apart from the records.

    A sampling mask is little-endian int32: offsets [T + 1], then the ids. Routed experts are an array [T, layers, k] in
    NumPy's .npy format. The token at -1, before the first of a turn, is the last one of the turn that it continues:
    tokens are routed when they are read, and that one was not read yet when it was sampled.
    """

    kind: TokenFileKind
    sha256: str  # of the file, hex
    start: int
    end: int
    data: bytes = field(default=b"", compare=False, repr=False)  # FileBytes; b"" where only the store has it

    @classmethod
    def of_mask(cls, mask: SamplingMask, start: int) -> "TokenFile":
        data = np.concatenate((mask.offsets, mask.ids)).astype(_WHOLE, copy=False).tobytes()
        return cls._of(TokenFileKind.SAMPLING_MASK, data, start, len(mask))

    @classmethod
    def of_experts(cls, experts: Experts, start: int) -> "TokenFile":
        file = io.BytesIO()
        np.save(file, experts, allow_pickle=False)
        return cls._of(TokenFileKind.ROUTED_EXPERTS, file.getvalue(), start, len(experts))

    @classmethod
    def _of(cls, kind: TokenFileKind, data: bytes, start: int, tokens: int) -> "TokenFile":
        return cls(kind, sha256(data).hexdigest(), start, start + tokens, FileBytes(data))

    def moved(self, by: int) -> "TokenFile":
        return TokenFile(self.kind, self.sha256, self.start + by, self.end + by, self.data)

    def mask(self) -> SamplingMask:
        """What is in it.

        Raises:
            UsageError: its file is not here, or is not of so many tokens.
        """
        whole = np.frombuffer(self._here(), _WHOLE)
        offsets = self.end - self.start + 1
        return SamplingMask(whole[:offsets], whole[offsets:])

    def experts(self) -> Experts:
        """What is in it.

        Raises:
            UsageError: its file is not here, or is not of so many tokens.
        """
        experts: Experts = np.load(io.BytesIO(self._here()), allow_pickle=False)
        check_experts(experts, self.end - self.start)
        return experts

    def _here(self) -> bytes:
        if not self.data:
            rule = "have it fetched first: FeedClient.with_files, or TraceStore.events(files=True)"
            where = f"of tokens {self.start}..{self.end}"
            raise UsageError(f"the {self.kind} file {self.sha256} {where} is not here; {rule}")
        return self.data


def check_experts(experts: Experts, tokens: int) -> None:
    """
    Raises:
        UsageError: they are not those of so many tokens.
    """
    if experts.ndim != 3 or len(experts) != tokens or experts.dtype not in (np.uint8, np.uint16):
        rule = f"they must be uint8 or uint16 [{tokens}, layers, k]"
        raise UsageError(f"routed experts are {experts.dtype} {list(experts.shape)}; {rule}")
