"""Decoder: a tokenizer's way from ids to text; Decoders: which runs it may be used for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from envhub.contracts.events import RunStarted
from envhub.contracts.ids import RunId
from envhub.contracts.store import TraceStore

Decode: TypeAlias = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Decoder:
    """`decode` gives the text of some ids, control tokens included; `model` names whose ids they are, as runs record
    it: {"engine": ..., "weights": ...}."""

    model: Mapping[str, str]
    decode: Decode


class Decoders:
    """The decoder of each run of a store. A run samples from one model, also when it is resumed, so each is looked up
    once."""

    def __init__(self, store: TraceStore, decoder: Decoder | None) -> None:
        self._store = store
        self._decoder = decoder
        self._of_run: dict[RunId, Decode | None] = {}

    @property
    def any(self) -> bool:
        return self._decoder is not None

    async def of(self, run_id: RunId) -> Decode | None:
        """None where the run sampled from another model than the decoder's, or does not record from which."""
        if self._decoder is None:
            return None
        if run_id not in self._of_run:
            fits = await self._model(run_id) == self._decoder.model
            self._of_run[run_id] = self._decoder.decode if fits else None
        return self._of_run[run_id]

    async def _model(self, run_id: RunId) -> object:
        first = await anext(aiter(self._store.events(run_id)), None)
        return first.settings.get("model") if isinstance(first, RunStarted) else None
