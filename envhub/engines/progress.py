"""Progress: how far a generation has come that may go on at another server."""

from dataclasses import dataclass, field, replace

import numpy as np

from envhub.contracts.engine import EngineChunk, EngineRequest
from envhub.contracts.ids import PolicyVersion, derive_seed
from envhub.contracts.turn import Finish, Ids


@dataclass(slots=True, eq=False)
class Progress:
    """What a generation has so far."""

    request: EngineRequest
    context_tokens: int
    parts: int = 0  # that were asked for
    version: PolicyVersion = PolicyVersion(0)  # of the newest token
    ids: list[Ids] = field(default_factory=list)
    tokens: int = 0

    def add(self, chunk: EngineChunk) -> None:
        self.version = chunk.policy_version
        if len(chunk.ids):
            self.ids.append(chunk.ids)
            self.tokens += len(chunk.ids)

    @property
    def finish(self) -> Finish | None:
        """Why nothing is missing, though no server said so; None where something is."""
        if self.ids and int(self.ids[-1][-1]) in self.request.stop_ids:
            return Finish.STOP
        if self.tokens >= self.request.sampling.max_tokens:
            return Finish.LENGTH
        full = self.tokens and len(self.request.prompt_ids) + self.tokens >= self.context_tokens
        return Finish.CONTEXT if full else None

    def next_part(self) -> EngineRequest:
        """All of it, or what is missing, under an id of its own."""
        self.parts += 1
        request = self.request
        if self.parts == 1:
            return request
        sampling = request.sampling
        if self.tokens:
            seed = derive_seed(sampling.seed or 0, "server", self.tokens)
            sampling = replace(sampling, max_tokens=sampling.max_tokens - self.tokens, seed=seed)
        return replace(
            request,
            request_id=f"{request.request_id}+{self.parts}",
            prompt_ids=np.concatenate((request.prompt_ids, *self.ids)),
            sampling=sampling,
        )
